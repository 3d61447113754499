use std::path::Path;

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::VERSIONS;
use super::call::NetConf;
use crate::attach::Attachment;
use crate::config::Subnet;

/// Place of the container's interface in a result's list of interfaces.
const INSIDE: usize = 2;

/// The versions that are spoken.
pub(super) fn versions(asked: &str) -> Value {
    let own = if asked.is_empty() {
        VERSIONS[VERSIONS.len() - 1]
    } else {
        asked
    };
    json!({ "cniVersion": own, "supportedVersions": VERSIONS })
}

/// The result of ADD.
pub(super) fn added(
    conf: &NetConf,
    attachment: &Attachment,
    subnet: Subnet,
    (interface, netns): (&str, &Path),
) -> Value {
    let prefixes = subnet.networks().map(|net| net.prefix_len());
    let ips = attachment.ips.iter().zip(prefixes).zip(&attachment.gateways);
    let ips = ips.map(|((ip, prefix), gateway)| {
        let mut entry = json!({
            "address": format!("{ip}/{prefix}"),
            "gateway": gateway,
            "interface": INSIDE,
        });
        if conf.is_old() {
            entry["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
        }
        entry
    });
    let routes = attachment.gateways.iter().map(|gateway| {
        let everywhere = if gateway.is_ipv4() {
            Ipv4Net::default().to_string()
        } else {
            Ipv6Net::default().to_string()
        };
        json!({ "dst": everywhere, "gw": gateway })
    });
    let mut interfaces = [
        json!({ "name": conf.bridge }),
        json!({ "name": attachment.host_link }),
        json!({ "name": interface, "mac": attachment.mac.to_string(), "sandbox": netns }),
    ];
    if conf.has_mtu() {
        interfaces.iter_mut().for_each(|i| i["mtu"] = json!(subnet.mtu));
    }
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": interfaces,
        "ips": ips.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "dns": conf.dns.clone().unwrap_or_else(|| json!({})),
    })
}

/// The result of ADD for a loopback interface.
pub(super) fn loopback(conf: &NetConf, interface: &str, netns: &Path) -> Value {
    let ips = [("127.0.0.1/8", "4"), ("::1/128", "6")].map(|(address, version)| {
        let mut entry = json!({ "address": address, "interface": 0 });
        if conf.is_old() {
            entry["version"] = json!(version);
        }
        entry
    });
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [{ "name": interface, "mac": "00:00:00:00:00:00", "sandbox": netns }],
        "ips": ips,
        "dns": {},
    })
}
