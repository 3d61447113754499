//! Seeded mutations for tests of parsers: the same seed gives the same input.

/// A small generator (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Changes a text: characters replaced, removed and doubled, pieces of `words` put in.
    pub(crate) fn text(&mut self, text: &str, words: &[&str]) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(5) {
            let at = self.below(characters.len() + 1);
            match self.below(4) {
                0 if at < characters.len() => characters[at] = char::from(self.below(128) as u8),
                1 if at < characters.len() => drop(characters.remove(at)),
                2 => {
                    let end = (at + self.below(20)).min(characters.len());
                    let piece = characters[at..end].to_vec();
                    characters.splice(at..at, piece);
                }
                _ => drop(characters.splice(at..at, words[self.below(words.len())].chars())),
            }
        }
        characters.into_iter().collect()
    }
}

mod tests {
    use super::Random;
    use crate::digest::Digest;
    use crate::pull::{Kind, choose, diff_ids};
    use crate::reference::Reference;

    const ROUNDS: u64 = 20_000;

    #[test]
    fn mutated_references_are_refused_or_normal() {
        let digest = Digest::of(b"").to_string();
        let seeds = [
            "nginx:1.27",
            "[::1]:5000/a/b:x",
            "reg.io:443/a__b/c---d.e",
            &digest,
        ];
        let words = [
            "/", "//", ":", "@", "@sha256:", "..", "[", "]", ".io/", "A", "é", "\0", &digest,
        ];
        let mut taken = 0;
        for seed in 0..ROUNDS {
            let mut random = Random::new(seed);
            let text = random.text(seeds[random_index(seed, seeds.len())], &words);
            let Ok(reference) = Reference::parse(&text) else {
                continue;
            };
            taken += 1;
            // What is normal stays as it is, and is safe in a URL and as a directory's name.
            let normal = reference.to_string();
            assert_eq!(Reference::parse(&normal).unwrap(), reference, "{text:?}");
            assert!(
                normal.is_ascii() && !normal.contains([' ', '?', '#', '%', '\\', '\0']),
                "{normal:?}"
            );
            assert!(
                !reference.domain.contains('/') && reference.domain != "..",
                "{normal:?}"
            );
            assert!(
                reference.path.split('/').all(|part| part != ".." && part != "."),
                "{normal:?}"
            );
        }
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn mutated_manifests_are_refused_or_read() {
        let digest = Digest::of(b"");
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":2}},"layers":[{{"digest":"{digest}","size":3,"mediaType":"x"}}]}}"#
        );
        let index = format!(
            r#"{{"manifests":[{{"digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"amd64","variant":"v1"}}}}]}}"#
        );
        let config = format!(r#"{{"config":{{"Env":null}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#);
        let words = [
            "null",
            "-1",
            "1e99",
            "18446744073709551616",
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            "\\u0000",
            "v9",
            "linux",
        ];
        let (mut good, mut bad) = (0, 0);
        for seed in 0..ROUNDS {
            let mut random = Random::new(seed);
            let source = [&image, &index, &config][random_index(seed, 3)];
            let text = random.text(source, &words);
            let read = match Kind::parse(text.as_bytes()) {
                Ok(Kind::Image(manifest)) => {
                    // Sums of sizes that cannot be do not overflow.
                    manifest.size();
                    true
                }
                Ok(Kind::Index(index)) => {
                    choose(&index);
                    true
                }
                Err(_) => diff_ids(1, text.as_bytes()).is_ok(),
            };
            match read {
                true => good += 1,
                false => bad += 1,
            }
        }
        assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
    }

    fn random_index(seed: u64, bound: usize) -> usize {
        (seed % bound as u64) as usize
    }
}
