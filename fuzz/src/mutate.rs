//! Mutations that look random and are the same in every run.

/// Bytes that parsers look for, or that their sums trip over.
const WORDS: &[&[u8]] = &[
    b"..",
    b"/",
    b"../../x",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0\x7f\xff",
    b"77777777777",
    b"18446744073709551616",
    b"-1",
    b"null",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"=",
    b":",
    b"@sha256:",
    b".wh..wh..opq",
    "é".as_bytes(),
];

/// A small generator (xorshift64*).
pub struct Mutator(u64);

impl Mutator {
    /// The same seed makes the same mutations.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    /// A piece of `bytes`.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let length = self.below(bytes.len() - start + 1).min(600);
        &bytes[start..start + length]
    }

    /// `seed` changed in one to six places, with pieces of `other` among them.
    pub fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            let word = WORDS[self.below(WORDS.len())];
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => drop(bytes.splice(at..at, word.iter().copied())),
                3 => {
                    let end = (at + word.len()).min(bytes.len());
                    bytes.splice(at..end, word.iter().copied());
                }
                4 => {
                    let end = at + self.below(bytes.len() - at + 1).min(64);
                    bytes.drain(at..end);
                }
                5 => {
                    let again = self.piece(&bytes).to_vec();
                    bytes.splice(at..at, again);
                }
                6 => {
                    let foreign = self.piece(other).to_vec();
                    bytes.splice(at..at, foreign);
                }
                _ => bytes.truncate(at.max(bytes.len() / 2)),
            }
        }
        bytes
    }
}
