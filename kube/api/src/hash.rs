//! Hashes that names are made of.

/// 32-bit FNV-1a: the same for the same bytes in every run and version; no protection against who looks for
/// collisions.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Of 0 to `most` the part that falls to `name`, always the same: what many would do at once comes one after the
/// other.
pub fn share(name: &str, most: u32) -> u32 {
    match most.checked_add(1) {
        Some(parts) => fnv1a_32(name.as_bytes()) % parts,
        None => fnv1a_32(name.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_over_all_there_are() {
        let of = |most| -> std::collections::BTreeSet<u32> {
            (0..200).map(|pod| share(&format!("uid-{pod}"), most)).collect()
        };
        assert_eq!(of(0), [0].into());
        assert_eq!(of(3), [0, 1, 2, 3].into());
        assert_eq!(share("a", u32::MAX), fnv1a_32(b"a"));
    }

    /// From the test vectors of the hash's authors.
    #[test]
    fn the_known_sums() {
        assert_eq!(fnv1a_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a_32(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
    }
}
