use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lease::{BackendData, LeaseAttributes};

const MANAGED: &str = "kube-subnet-manager";
const BACKEND_TYPE: &str = "backend-type";
const BACKEND_DATA: &str = "backend-data";
const BACKEND_V6_DATA: &str = "backend-v6-data";
const PUBLIC_IP: &str = "public-ip";
const PUBLIC_IPV6: &str = "public-ipv6";
const PUBLIC_IP_OVERWRITE: &str = "public-ip-overwrite";
const PUBLIC_IPV6_OVERWRITE: &str = "public-ipv6-overwrite";
/// What others, such as a cloud's controller, know of the node's address.
const NODE_PUBLIC_IP: &str = "node-public-ip";
const NODE_PUBLIC_IPV6: &str = "node-public-ipv6";

/// Names of a node's annotations: a prefix and what each is (`pkg/subnet/kube/annotations.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Annotations {
    prefix: String,
}

impl Default for Annotations {
    fn default() -> Self {
        Self::new("flannel.alpha.coreos.com")
    }
}

impl Annotations {
    /// A prefix without a slash gets one at its end; one that ends with neither slash nor hyphen a hyphen.
    pub fn new(prefix: &str) -> Self {
        let mut prefix = prefix.to_owned();
        if !prefix.contains('/') {
            prefix.push('/');
        }
        if !prefix.ends_with(['/', '-']) {
            prefix.push('-');
        }
        Self { prefix }
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    /// A lease's attributes as annotations; none stands for one that must not be there.
    pub fn write(&self, attributes: &LeaseAttributes) -> BTreeMap<String, Option<String>> {
        let v6 = attributes.public_ipv6.map(|ip| {
            let data = attributes
                .backend_v6
                .as_ref()
                .map_or("null".to_owned(), BackendData::data);
            (ip.to_string(), data)
        });
        let (public_ipv6, data_v6) = v6.unzip();
        BTreeMap::from([
            (self.name(MANAGED), Some("true".to_owned())),
            (
                self.name(BACKEND_TYPE),
                Some(attributes.backend.kind().to_owned()),
            ),
            (self.name(BACKEND_DATA), Some(attributes.backend.data())),
            (self.name(PUBLIC_IP), Some(attributes.public_ip.to_string())),
            (self.name(BACKEND_V6_DATA), data_v6),
            (self.name(PUBLIC_IPV6), public_ipv6),
        ])
    }

    /// The lease's attributes, when the annotations hold one that can be read.
    pub fn read(&self, annotations: &BTreeMap<String, String>) -> Option<LeaseAttributes> {
        let get = |what: &str| annotations.get(&self.name(what)).map(String::as_str);
        if get(MANAGED) != Some("true") {
            return None;
        }
        let kind = get(BACKEND_TYPE)?;
        let public_ipv6 = get(PUBLIC_IPV6).and_then(|ip| ip.parse().ok());
        Some(LeaseAttributes {
            public_ip: get(PUBLIC_IP)?.parse().ok()?,
            public_ipv6,
            backend: BackendData::parse(kind, get(BACKEND_DATA).unwrap_or("null"))?,
            backend_v6: public_ipv6.and_then(|_: Ipv6Addr| BackendData::parse_v6(kind, get(BACKEND_V6_DATA))),
        })
    }

    /// The addresses that an administrator wants told.
    pub fn overwrite(&self, annotations: &BTreeMap<String, String>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let get = |what: &str| annotations.get(&self.name(what));
        let either = |first: &str, second: &str| get(first).or_else(|| get(second));
        (
            either(PUBLIC_IP_OVERWRITE, NODE_PUBLIC_IP).and_then(|ip| ip.parse().ok()),
            either(PUBLIC_IPV6_OVERWRITE, NODE_PUBLIC_IPV6).and_then(|ip| ip.parse().ok()),
        )
    }
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

    fn alike(seen: &BTreeMap<String, String>) -> LeaseAttributes {
        let names = Annotations::default();
        let attributes = names.read(seen).unwrap();
        let written = names.write(&attributes).into_iter();
        let written: BTreeMap<_, _> = written.filter_map(|(k, v)| Some((k, v?))).collect();
        assert_eq!(&written, seen);
        attributes
    }

    #[test]
    fn upstreams_annotations_are_read_and_written_alike() {
        let attributes = alike(&annotations(&[
            ("backend-data", r#"{"VNI":1,"VtepMAC":"12:34:56:78:9a:bc"}"#),
            ("backend-type", "vxlan"),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
        ]));
        let mac = MacAddr([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]);
        assert_eq!(attributes.backend, BackendData::Vxlan { vni: 1, mac });
    }

    #[test]
    fn upstreams_annotations_of_both_families_are_read_and_written_alike() {
        let attributes = alike(&annotations(&[
            ("backend-data", r#"{"VNI":1,"VtepMAC":"12:34:56:78:9a:bc"}"#),
            ("backend-type", "vxlan"),
            ("backend-v6-data", r#"{"VNI":1,"VtepMAC":"12:34:56:78:9a:bd"}"#),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
            ("public-ipv6", "2001:db8::1"),
        ]));
        let mac = MacAddr([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbd]);
        assert_eq!(attributes.backend_v6, Some(BackendData::Vxlan { vni: 1, mac }));
        assert_eq!(attributes.public_ipv6, Some("2001:db8::1".parse().unwrap()));
        alike(&annotations(&[
            ("backend-data", "null"),
            ("backend-type", "host-gw"),
            ("backend-v6-data", "null"),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
            ("public-ipv6", "2001:db8::1"),
        ]));
    }

    #[test]
    fn half_a_lease_is_none() {
        let names = Annotations::default();
        let unmanaged = annotations(&[("backend-type", "vxlan"), ("public-ip", "192.0.2.1")]);
        assert_eq!(names.read(&unmanaged), None);
        let no_ip = annotations(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", "host-gw"),
            ("backend-data", "null"),
        ]);
        assert_eq!(names.read(&no_ip), None);
    }

    #[test]
    fn an_overwritten_address_beats_what_others_know() {
        let told = |pairs: &[(&str, &str)]| Annotations::default().overwrite(&annotations(pairs));
        let known = ("node-public-ip", "203.0.113.1");
        let v6 = ("node-public-ipv6", "2001:db8::1");
        let ip = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
        assert_eq!(
            told(&[known, v6]),
            (ip("203.0.113.1"), Some("2001:db8::1".parse().unwrap()))
        );
        let both = told(&[known, ("public-ip-overwrite", "203.0.113.9")]);
        assert_eq!(both, (ip("203.0.113.9"), None));
    }

    #[test]
    fn prefixes_are_completed_as_upstream_does() {
        let name = |prefix: &str| Annotations::new(prefix).name("public-ip");
        assert_eq!(name("flannel.example.com"), "flannel.example.com/public-ip");
        assert_eq!(name("example.com/flannel"), "example.com/flannel-public-ip");
        assert_eq!(name("example.com/flannel-"), "example.com/flannel-public-ip");
    }
}
