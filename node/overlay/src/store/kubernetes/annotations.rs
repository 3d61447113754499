use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::lease::{BackendData, LeaseAttributes};

const MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";
const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const PUBLIC_IP_OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";

/// A lease's attributes as annotations.
pub(super) fn write(attributes: &LeaseAttributes) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (MANAGED, "true".to_owned()),
        (BACKEND_TYPE, attributes.backend.kind().to_owned()),
        (BACKEND_DATA, attributes.backend.data()),
        (PUBLIC_IP, attributes.public_ip.to_string()),
    ])
}

/// The lease's attributes, when the annotations hold one that can be read.
pub(super) fn read(annotations: &BTreeMap<String, String>) -> Option<LeaseAttributes> {
    let get = |key: &str| annotations.get(key).map(String::as_str);
    if get(MANAGED) != Some("true") {
        return None;
    }
    let backend = BackendData::parse(get(BACKEND_TYPE)?, get(BACKEND_DATA).unwrap_or("null"))?;
    Some(LeaseAttributes {
        public_ip: get(PUBLIC_IP)?.parse().ok()?,
        backend,
    })
}

/// The address that an administrator wants told.
pub(super) fn overwrite(annotations: &BTreeMap<String, String>) -> Option<Ipv4Addr> {
    annotations.get(PUBLIC_IP_OVERWRITE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use knode_netlink::MacAddr;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| (format!("flannel.alpha.coreos.com/{k}"), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn upstreams_annotations_are_read_and_written_alike() {
        let seen = annotations(&[
            ("backend-data", r#"{"VNI":1,"VtepMAC":"12:34:56:78:9a:bc"}"#),
            ("backend-type", "vxlan"),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
        ]);
        let attributes = read(&seen).unwrap();
        let mac = MacAddr([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]);
        assert_eq!(attributes.backend, BackendData::Vxlan { vni: 1, mac });
        let written: BTreeMap<_, _> = write(&attributes)
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect();
        assert_eq!(written, seen);
    }

    #[test]
    fn half_a_lease_is_none() {
        assert_eq!(
            read(&annotations(&[
                ("backend-type", "vxlan"),
                ("public-ip", "192.0.2.1")
            ])),
            None
        );
        let no_ip = annotations(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", "host-gw"),
            ("backend-data", "null"),
        ]);
        assert_eq!(read(&no_ip), None);
    }
}
