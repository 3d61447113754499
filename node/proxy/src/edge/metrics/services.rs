use super::text::{head, line};
use crate::apply::ServiceCount;

const NAME: &str = "knode_proxy_service_connections_total";
const HELP: &str =
    "First packets of connections that found a port of a Service, since it was last programmed.";

/// Writes what was counted for single Services, in a fixed order.
pub(in crate::edge) fn write(out: &mut String, mut counts: Vec<ServiceCount>) {
    counts
        .sort_unstable_by(|a, b| (&a.service, a.family, a.frontend).cmp(&(&b.service, b.family, b.frontend)));
    head(out, NAME, "counter", HELP);
    for count in counts {
        let (namespace, name) = count.service.split_once('/').unwrap_or(("", &count.service));
        let address = match count.frontend.place {
            crate::plan::Place::Address(address) => address.to_string(),
            crate::plan::Place::Node => "node".to_owned(),
        };
        line(
            out,
            format_args!(
                "{NAME}{{ip_family=\"{}\",namespace=\"{namespace}\",service=\"{name}\",address=\"{address}\",\
                 protocol=\"{}\",port=\"{}\"}} {}",
                count.family, count.frontend.protocol, count.frontend.port, count.connections
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IpFamily, Protocol};
    use crate::plan::{Frontend, Place};

    #[test]
    fn a_service_is_named_with_its_place() {
        let count = |place| ServiceCount {
            service: "a/web".into(),
            family: IpFamily::V4,
            frontend: Frontend {
                place,
                protocol: Protocol::Tcp,
                port: 80,
            },
            connections: 7,
        };
        let mut out = String::new();
        let address = Place::Address("10.96.0.1".parse().expect("ip"));
        write(&mut out, vec![count(Place::Node), count(address)]);
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let labels = "ip_family=\"IPv4\",namespace=\"a\",service=\"web\"";
        assert_eq!(
            lines,
            [
                format!("{NAME}{{{labels},address=\"10.96.0.1\",protocol=\"tcp\",port=\"80\"}} 7"),
                format!("{NAME}{{{labels},address=\"node\",protocol=\"tcp\",port=\"80\"}} 7")
            ]
        );
    }
}
