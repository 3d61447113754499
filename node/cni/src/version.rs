//! Versions of the specification.

use std::fmt;

/// A version of the specification that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, `prevResult` for DEL.
    V0_4_0,
    /// 1.0.0: addresses without a version of their own.
    V1_0_0,
    /// 1.1.0: STATUS, GC.
    V1_1_0,
}

/// Why there is no version to speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three numbers.
    #[error("{0:?} is not a version of the specification")]
    Malformed(String),
    /// A version, but none that is spoken.
    #[error("version {0} of the specification is not supported; supported are {list}", list = Version::list())]
    Unsupported(String),
}

impl Version {
    /// All that are spoken, the oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`VersionError`]; 0.1.0 and 0.2.0 are not supported.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
        let numbers = numbers.filter(|n| n.len() == 3);
        if numbers.is_none() {
            return Err(VersionError::Malformed(text.to_owned()));
        }
        let known = Self::ALL.into_iter().find(|v| v.as_str() == text);
        known.ok_or_else(|| VersionError::Unsupported(text.to_owned()))
    }

    /// Chooses the newest spoken one of those that a configuration offers. Without `cniVersions` that is `cniVersion`
    /// alone; without either it means 0.1.0, as upstream.
    ///
    /// # Errors
    /// [`VersionError`] when one is malformed, or none is spoken.
    pub fn negotiate(one: Option<&str>, many: &[String]) -> Result<Self, VersionError> {
        let offered = many.iter().map(String::as_str).chain(one);
        let mut best = None;
        for text in offered {
            match Self::parse(text) {
                Ok(version) => best = best.max(Some(version)),
                Err(error @ VersionError::Malformed(_)) => return Err(error),
                Err(VersionError::Unsupported(_)) => {}
            }
        }
        best.ok_or_else(|| {
            let offered: Vec<_> = many.iter().map(String::as_str).chain(one).collect();
            let said = if offered.is_empty() {
                "0.1.0 (which a missing cniVersion means)".to_owned()
            } else {
                offered.join(", ")
            };
            VersionError::Unsupported(said)
        })
    }

    fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(one: Option<&str>, many: &[&str]) -> Result<Version, VersionError> {
        let many: Vec<_> = many.iter().map(|m| (*m).to_owned()).collect();
        Version::negotiate(one, &many)
    }

    #[test]
    fn the_newest_that_both_know_is_spoken() {
        assert_eq!(negotiate(Some("0.4.0"), &[]), Ok(Version::V0_4_0));
        assert_eq!(negotiate(Some("0.3.1"), &["1.0.0", "0.4.0"]), Ok(Version::V1_0_0));
        assert_eq!(negotiate(Some("1.1.0"), &["0.4.0"]), Ok(Version::V1_1_0));
        assert_eq!(negotiate(None, &["0.4.0", "7.0.0"]), Ok(Version::V0_4_0));
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        for old in ["0.1.0", "0.2.0", "2.0.0"] {
            let refused = negotiate(Some(old), &[]).unwrap_err();
            assert_eq!(refused, VersionError::Unsupported(old.to_owned()));
            assert!(
                refused.to_string().contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
                "{refused}"
            );
        }
        assert!(
            negotiate(None, &[])
                .unwrap_err()
                .to_string()
                .contains("missing cniVersion")
        );
        let malformed = VersionError::Malformed("one".to_owned());
        assert_eq!(negotiate(Some("1.0.0"), &["one"]), Err(malformed));
    }
}
