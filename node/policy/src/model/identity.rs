use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Bytes of the digest that a name carries: too many for anyone to find two things of one name.
const BYTES: usize = 12;

/// A name for what these parts describe: the same in every run, another one for other parts.
pub(crate) fn identity<T: AsRef<[u8]>>(prefix: &str, parts: impl IntoIterator<Item = T>) -> Box<str> {
    let mut digest = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut name = format!("{prefix}-");
    for byte in &digest.finalize()[..BYTES] {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_eq!(identity("x", ["a", "b"]), identity("x", ["a", "b"]));
        assert_ne!(identity("x", ["ab", ""]), identity("x", ["a", "b"]));
        assert_eq!(identity("x", ["a"]).len(), 2 + 24);
    }
}
