//! What ADD answers, and its forms in the versions of the specification.

mod success;

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::version::{Version, VersionError};
use success::Success;

/// What a container got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The network's name.
    pub network: String,
    /// The addresses of its interface, IPv4 first.
    pub ips: Vec<IpAddr>,
}

/// Why what a plugin printed is not a result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Nothing was printed.
    #[error("it printed nothing")]
    Empty,
    /// Not JSON, or not of a result's form.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    /// In a version that is not spoken.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Not an address with its prefix length.
    #[error("{0:?} is not an address with a prefix length")]
    Address(String),
    /// An address belongs to an interface that is not listed.
    #[error("an address belongs to interface {0}, but {1} are listed")]
    Interface(i64, usize),
}

/// Reads a result and brings it into the form of `version`; unchanged where it is in that form already. One without a
/// version is in the version that was asked for, as upstream takes it (`pkg/invoke/exec.go`).
pub(crate) fn parse(output: &[u8], version: Version) -> Result<Value, ResultError> {
    if output.trim_ascii().is_empty() {
        return Err(ResultError::Empty);
    }
    let object: Map<String, Value> = serde_json::from_slice(output)?;
    let mut value = Value::Object(object);
    let success: Success = serde_json::from_value(value.clone())?;
    success.validate()?;
    let own = match &value["cniVersion"] {
        Value::String(text) if !text.is_empty() => Version::parse(text)?,
        _ => version,
    };
    if own != version {
        return Ok(success.into_json(version)?);
    }
    value["cniVersion"] = version.as_str().into();
    Ok(value)
}

/// The addresses of an interface, IPv4 first. One that names no interface is the container's.
pub(crate) fn addresses(result: &Value, interface: &str) -> Result<Vec<IpAddr>, ResultError> {
    let success: Success = serde_json::from_value(result.clone())?;
    let mut ips = success.addresses(interface)?;
    ips.sort_by_key(IpAddr::is_ipv6);
    Ok(ips)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn old() -> Value {
        json!({
            "cniVersion": "0.3.1",
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [
                {"version": "6", "interface": 2, "address": "fd00::5/64"},
                {"version": "4", "interface": 2, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
                {"version": "4", "interface": 0, "address": "10.1.0.1/24"},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
            "dns": {"nameservers": ["10.0.0.10"]},
        })
    }

    fn converted(value: &Value, version: Version) -> Value {
        parse(value.to_string().as_bytes(), version).unwrap()
    }

    #[test]
    fn results_are_brought_into_the_networks_version() {
        let new = converted(&old(), Version::V1_0_0);
        assert_eq!(new["cniVersion"], "1.0.0");
        assert_eq!(
            new["ips"][1],
            json!({"interface": 2, "address": "10.1.0.5/24", "gateway": "10.1.0.1"})
        );
        assert_eq!(converted(&new, Version::V0_3_1), old(), "and back");
        let newest = json!({"cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "sandbox": "/n", "mtu": 1400, "pciID": "0000:00:1f.6"}],
            "ips": [{"address": "fd00::5/64", "interface": 0}],
            "routes": [{"dst": "::/0", "mtu": 1300, "priority": 5}]});
        assert_eq!(converted(&newest, Version::V1_1_0), newest);
        let older = converted(&newest, Version::V0_4_0);
        assert_eq!(older["interfaces"], json!([{"name": "eth0", "sandbox": "/n"}]));
        assert_eq!(
            older["ips"],
            json!([{"version": "6", "interface": 0, "address": "fd00::5/64"}])
        );
        assert_eq!(older["routes"], json!([{"dst": "::/0"}]));
    }

    #[test]
    fn a_result_in_the_networks_version_keeps_what_nobody_knows() {
        let own = json!({"cniVersion": "1.0.0", "ips": [], "somebodys": {"own": true}});
        assert_eq!(converted(&own, Version::V1_0_0), own);
        let without = parse(br#"{"ips":[]}"#, Version::V0_4_0).unwrap();
        assert_eq!(without["cniVersion"], "0.4.0");
    }

    #[test]
    fn the_containers_addresses_are_those_of_its_interface() {
        let ips = addresses(&old(), "eth0").unwrap();
        assert_eq!(
            ips,
            ["10.1.0.5", "fd00::5"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        let bare = json!({"ips": [{"address": "192.0.2.7/32"}]});
        assert_eq!(addresses(&bare, "eth0").unwrap().len(), 1);
        assert_eq!(
            addresses(&json!({"ips": null}), "eth0").unwrap(),
            Vec::<IpAddr>::new()
        );
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let refused = |text: &str| parse(text.as_bytes(), Version::V1_0_0).unwrap_err();
        assert!(matches!(refused(" \n"), ResultError::Empty));
        assert!(matches!(refused("{"), ResultError::Syntax(_)));
        assert!(matches!(refused("[]"), ResultError::Syntax(_)));
        assert!(matches!(
            refused(r#"{"cniVersion":"0.2.0","ip4":{}}"#),
            ResultError::Version(_)
        ));
        assert!(matches!(
            refused(r#"{"ips":[{"address":"10.1.0.5"}]}"#),
            ResultError::Address(_)
        ));
        assert!(matches!(
            refused(r#"{"ips":[{"address":"10.1.0.5/33"}]}"#),
            ResultError::Address(_)
        ));
        let astray = r#"{"interfaces":[{"name":"a"}],"ips":[{"address":"10.1.0.5/8","interface":1}]}"#;
        assert!(matches!(refused(astray), ResultError::Interface(1, 1)));
    }
}
