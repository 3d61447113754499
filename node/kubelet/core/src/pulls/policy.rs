//! Which images that are here are verified again (upstream: `pkg/kubelet/images/pullmanager/image_pull_policies.go`).
//! Pure.

use std::collections::BTreeSet;

use crate::image::{repository, with_default_tag};

/// Whose images a pod may use without showing that it could pull them (`imagePullCredentialsVerificationPolicy`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PullVerification {
    /// Everybody's.
    Never,
    /// Those that something else than the kubelet has brought.
    #[default]
    NeverPreloaded,
    /// Those on a list.
    NeverListed(ImageList),
    /// Nobody's.
    Always,
}

/// A policy or list that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// No such policy.
    #[error("imagePullCredentialsVerificationPolicy: unknown policy {0:?}")]
    Policy(String),
    /// No such pattern.
    #[error("preloadedImagesVerificationAllowlist: {pattern:?}: {problem}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl PullVerification {
    /// The policy of upstream's `name`, with upstream's list of images.
    ///
    /// # Errors
    /// [`VerificationError`].
    pub fn new(name: &str, list: &[String]) -> Result<Self, VerificationError> {
        let list = ImageList::new(list)?;
        match name {
            "NeverVerify" => Ok(Self::Never),
            "NeverVerifyPreloadedImages" => Ok(Self::NeverPreloaded),
            "NeverVerifyAllowlistedImages" => Ok(Self::NeverListed(list)),
            "AlwaysVerify" => Ok(Self::Always),
            other => Err(VerificationError::Policy(other.to_owned())),
        }
    }

    /// Whether pods must show that they could pull `image`; `by_kubelet`: the kubelet has pulled it.
    pub(super) fn asks_for(&self, image: &str, by_kubelet: bool) -> bool {
        match self {
            Self::Never => false,
            Self::NeverPreloaded => by_kubelet,
            Self::NeverListed(list) => !list.has(image),
            Self::Always => true,
        }
    }
}

/// Repositories, and beginnings of repositories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageList {
    whole: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl ImageList {
    /// Patterns are repositories with their registry, without tag and digest; or end in `/*`.
    fn new(patterns: &[String]) -> Result<Self, VerificationError> {
        let mut list = Self::default();
        for pattern in patterns {
            let wrong = |problem| VerificationError::Pattern {
                pattern: pattern.clone(),
                problem,
            };
            match pattern.strip_suffix('*').filter(|prefix| prefix.ends_with('/')) {
                Some(prefix) => {
                    check_prefix(prefix).map_err(wrong)?;
                    list.prefixes.push(prefix.to_owned());
                }
                None => {
                    check_whole(pattern).map_err(wrong)?;
                    list.whole.insert(pattern.clone());
                }
            }
        }
        Ok(list)
    }

    fn has(&self, image: &str) -> bool {
        let name = repository(image);
        self.whole.contains(&name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    match prefix {
        "/" => Err("at least the registry's name is needed before /*"),
        _ if prefix != prefix.trim() => Err("must not begin or end with a space"),
        _ if prefix.contains('*') => Err("a * may stand after the last / only"),
        _ => Ok(()),
    }
}

fn check_whole(pattern: &str) -> Result<(), &'static str> {
    if pattern != pattern.trim() {
        return Err("must not begin or end with a space");
    }
    if pattern.contains('*') {
        return Err("a * may stand after the last / only");
    }
    if with_default_tag(pattern).is_err() {
        return Err("is not the name of an image");
    }
    match repository(pattern) == pattern {
        true => Ok(()),
        false => Err("must be a repository with its registry, without tag and digest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, list: &[&str]) -> Result<PullVerification, VerificationError> {
        let list: Vec<String> = list.iter().map(|&one| one.to_owned()).collect();
        PullVerification::new(name, &list)
    }

    #[test]
    fn policies_say_which_images_are_verified() {
        let list = &["docker.io/library/alpine", "reg.io:5000/team/*"][..];
        for (name, image, by_kubelet, expected) in [
            ("NeverVerify", "a", true, false),
            ("NeverVerify", "a", false, false),
            ("NeverVerifyPreloadedImages", "a", false, false),
            ("NeverVerifyPreloadedImages", "a", true, true),
            ("AlwaysVerify", "a", false, true),
            ("NeverVerifyAllowlistedImages", "alpine", true, false),
            (
                "NeverVerifyAllowlistedImages",
                "docker.io/library/alpine:3@sha256:1",
                false,
                false,
            ),
            ("NeverVerifyAllowlistedImages", "alpines", false, true),
            (
                "NeverVerifyAllowlistedImages",
                "reg.io:5000/team/a/b:1",
                false,
                false,
            ),
            (
                "NeverVerifyAllowlistedImages",
                "reg.io:5000/teams/a:1",
                false,
                true,
            ),
            ("NeverVerifyAllowlistedImages", "reg.io/team/a", false, true),
        ] {
            let policy = policy(name, list).unwrap();
            assert_eq!(
                policy.asks_for(image, by_kubelet),
                expected,
                "{name} {image} {by_kubelet}"
            );
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for (pattern, why) in [
            ("", "not the name"),
            ("/*", "registry's name"),
            ("reg.io/*/x", "after the last /"),
            ("reg.io/x*", "after the last /"),
            ("*.reg.io/*", "after the last /"),
            (" reg.io/x", "space"),
            (" reg.io/*", "space"),
            ("reg.io/x:1", "without tag"),
            ("reg.io:5000/x:1", "without tag"),
            ("alpine", "with its registry"),
            ("reg.io/X", "not the name"),
        ] {
            let error = policy("NeverVerifyAllowlistedImages", &[pattern]).unwrap_err();
            assert!(error.to_string().contains(why), "{pattern}: {error}");
        }
        assert!(policy("Sometimes", &[]).is_err());
        assert!(policy("NeverVerifyAllowlistedImages", &["reg.io:5000/x", "reg.io/*"]).is_ok());
    }
}
