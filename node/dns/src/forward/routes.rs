//! Who is asked about which names; pure.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hickory_proto::rr::Name;

const PORT: u16 = 53;

/// A domain that other servers know about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The domain.
    pub domain: Name,
    /// Who knows about it; at least one.
    pub servers: Vec<SocketAddr>,
}

/// Why a text is no stub domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseStubError {
    /// The parts are missing.
    #[error("{0:?} is not DOMAIN=SERVER[,SERVER...], such as example.com=192.0.2.53")]
    Form(String),
    /// The domain is no name.
    #[error("{0:?} is not a domain")]
    Domain(String),
    /// A server is no address.
    #[error("{0:?} is not an address, alone or with a port")]
    Server(String),
}

/// `DOMAIN=SERVER[,SERVER...]`; servers are addresses, with port 53 unless they name another.
impl FromStr for Stub {
    type Err = ParseStubError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').filter(|(domain, _)| !domain.is_empty());
        let (domain, servers) = parts.ok_or_else(|| ParseStubError::Form(text.to_owned()))?;
        let wrong = || ParseStubError::Domain(domain.to_owned());
        let mut name = Name::from_ascii(domain).map_err(|_| wrong())?;
        name.set_fqdn(true);
        let servers: Result<_, _> = servers.split(',').map(server).collect();
        Ok(Self {
            domain: name.to_lowercase(),
            servers: servers?,
        })
    }
}

fn server(text: &str) -> Result<SocketAddr, ParseStubError> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    alone
        .or_else(|_| text.parse())
        .map_err(|_| ParseStubError::Server(text.to_owned()))
}

/// The name servers of a resolv.conf, in its order, each once. Addresses of a link are left out.
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some("nameserver") = words.next() else {
            continue;
        };
        let Some(ip) = words.next().and_then(|word| word.parse().ok()) else {
            continue;
        };
        let server = SocketAddr::new(ip, PORT);
        if !found.contains(&server) {
            found.push(server);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_names_a_domain_and_servers() {
        let stub: Stub = "Example.COM=192.0.2.53,[2001:db8::53]:5353,2001:db8::1"
            .parse()
            .expect("a stub");
        assert_eq!(stub.domain.to_string(), "example.com.");
        let servers: Vec<String> = stub.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::1]:53"]
        );
        let error = |text: &str| text.parse::<Stub>().expect_err("no stub").to_string();
        assert!(error("example.com").contains("DOMAIN=SERVER"));
        assert!(error("example.com=").contains("\"\" is not an address"));
        assert!(error("a..b=192.0.2.1").contains("a..b"));
    }

    #[test]
    fn name_servers_are_read_as_resolvers_do() {
        let text = "# one\nsearch example.com\nnameserver 192.0.2.1 # two\nnameserver\t192.0.2.1\n\
                    nameserver fe80::1%eth0\nnameserver 2001:db8::1\noptions ndots:5\nnameserver x\n";
        let servers: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
