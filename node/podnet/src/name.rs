//! Names of links on the host's side.

/// Prefix of the host's ends of pod cables.
const CABLE: &str = "veth";
/// Prefix of the links that hold back what pods send.
const IFB: &str = "kifb";

/// Name of the host's end of a sandbox's cable: the prefix and 44 bits of the id's FNV-1a hash, 15 bytes.
pub(crate) fn host_link(sandbox_id: &str) -> String {
    let hash = sandbox_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    // The low bits of FNV mix best when folded with the high ones.
    format!("{CABLE}{:011x}", (hash ^ (hash >> 44)) & 0xfff_ffff_ffff)
}

/// Whether a link's name is one that [`host_link`] makes.
pub(crate) fn is_host_link(name: &str) -> bool {
    hash(name, CABLE).is_some()
}

/// Name of the link that holds back what comes in by a cable.
pub(crate) fn ifb(host_link: &str) -> String {
    format!("{IFB}{}", host_link.strip_prefix(CABLE).unwrap_or(host_link))
}

/// The cable that a link of this name belongs to; `None` for links that are not ours.
pub(crate) fn cable_of(name: &str) -> Option<String> {
    let hash = hash(name, CABLE).or_else(|| hash(name, IFB))?;
    Some(format!("{CABLE}{hash}"))
}

fn hash<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let is_hash = |h: &&str| h.len() == 11 && h.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_prefix(prefix).filter(is_hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ() {
        let names: HashSet<_> = (0..10_000).map(|n| host_link(&format!("sandbox-{n}"))).collect();
        assert_eq!(names.len(), 10_000);
        let fit = |n: &String| knode_netlink::is_link_name(n) && is_host_link(n);
        assert!(names.iter().all(fit));
        assert!(names.iter().all(|n| knode_netlink::is_link_name(&ifb(n))));
    }

    #[test]
    fn a_name_never_changes() {
        assert_eq!(host_link("a"), host_link("a"));
        assert!(!is_host_link("veth0") && !is_host_link("cni0"));
    }

    #[test]
    fn both_links_of_a_pod_lead_to_its_cable() {
        let cable = host_link("a");
        assert_eq!(cable_of(&ifb(&cable)), Some(cable.clone()));
        assert_eq!(cable_of(&cable), Some(cable));
        assert_eq!(cable_of("kifb0"), None);
    }
}
