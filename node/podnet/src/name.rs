/// Prefix of the host's ends of pod cables.
pub(crate) const PREFIX: &str = "veth";

/// Name of the host's end of a sandbox's cable: the prefix and 44 bits of the id's FNV-1a hash, 15 bytes.
pub(crate) fn host_link(sandbox_id: &str) -> String {
    let hash = sandbox_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    // The low bits of FNV mix best when folded with the high ones.
    format!("{PREFIX}{:011x}", (hash ^ (hash >> 44)) & 0xfff_ffff_ffff)
}

/// Whether a link's name is one that [`host_link`] makes.
pub(crate) fn is_host_link(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|h| h.len() == 11 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ() {
        let names: HashSet<_> = (0..10_000).map(|n| host_link(&format!("sandbox-{n}"))).collect();
        assert_eq!(names.len(), 10_000);
        assert!(
            names
                .iter()
                .all(|n| knode_netlink::is_link_name(n) && is_host_link(n))
        );
    }

    #[test]
    fn a_name_never_changes() {
        assert_eq!(host_link("a"), host_link("a"));
        assert!(!is_host_link("veth0") && !is_host_link("cni0"));
    }
}
