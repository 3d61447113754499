use std::path::Path;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::VERSIONS;
use super::call::NetConf;
use crate::attach::Attachment;
use crate::config::Subnet;

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
    let ips = attachment.ips.iter().map(|ip| {
        let mut entry = json!({
            "address": format!("{ip}/{}", subnet.ipv4.prefix_len()),
            "gateway": attachment.gateway,
            "interface": 2,
        });
        if conf.is_old() {
            entry["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
        }
        entry
    });
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [
            { "name": conf.bridge },
            { "name": attachment.host_link },
            { "name": interface, "mac": attachment.mac.to_string(), "sandbox": netns },
        ],
        "ips": ips.collect::<Vec<_>>(),
        "routes": [{ "dst": Ipv4Net::default(), "gw": attachment.gateway }],
        "dns": {},
    })
}
