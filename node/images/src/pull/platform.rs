//! Which image of an index runs here. Pure.

use super::manifest::{Descriptor, Index, Platform};

impl std::fmt::Display for Platform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(out, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// This machine, in the words of Go.
pub(crate) fn host() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform {
        os: "linux".into(),
        architecture: architecture.into(),
        variant: variant.into(),
    }
}

/// The manifest for this machine. An index with a single manifest that names no platform is taken as it is.
pub(crate) fn choose(index: &Index) -> Option<Descriptor> {
    choose_for(index, &host())
}

fn choose_for(index: &Index, host: &Platform) -> Option<Descriptor> {
    let mut machines = vec![host.clone()];
    machines.extend(older(host));
    let unnamed = || match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only.clone()),
        _ => None,
    };
    machines
        .iter()
        .find_map(|machine| choose_exactly(index, machine))
        .or_else(unnamed)
}

/// The 32-bit machine that a 64-bit one can be, where there is nothing better, as upstream orders them.
fn older(host: &Platform) -> Option<Platform> {
    let (architecture, variant) = match host.architecture.as_str() {
        "amd64" => ("386", ""),
        "arm64" => ("arm", "v8"),
        _ => return None,
    };
    Some(Platform {
        os: host.os.clone(),
        architecture: architecture.into(),
        variant: variant.into(),
    })
}

fn choose_exactly(index: &Index, host: &Platform) -> Option<Descriptor> {
    let fits = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| runs_on(platform, host))
    };
    let exact = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| platform.variant == host.variant)
    };
    // The newest that the machine still is; the first of equals.
    let newest = || {
        let variant = |entry: &&Descriptor| entry.platform.as_ref().map(|platform| platform.variant.clone());
        index.manifests.iter().rev().filter(fits).max_by_key(variant)
    };
    let exact = index.manifests.iter().filter(fits).find(exact);
    exact.or_else(newest).cloned()
}

fn runs_on(platform: &Platform, host: &Platform) -> bool {
    let variant = platform.variant.is_empty() || platform.variant <= host.variant || host.variant.is_empty();
    let baseline = !host.variant.is_empty() || matches!(platform.variant.as_str(), "" | "v1");
    platform.os == host.os && platform.architecture == host.architecture && variant && baseline
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn index(platforms: &[&str]) -> Index {
        let entry = |text: &&str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            let platform = Platform {
                os: part(),
                architecture: part(),
                variant: part(),
            };
            let digest = Digest::of(text.as_bytes());
            let platform = (!text.is_empty()).then_some(platform);
            Descriptor {
                digest,
                size: 0,
                media_type: String::new(),
                annotations: Default::default(),
                platform,
            }
        };
        Index {
            manifests: platforms.iter().map(entry).collect(),
        }
    }

    fn chosen(platforms: &[&str], host: &str) -> Option<String> {
        let host = index(&[host]).manifests[0].platform.clone().unwrap();
        choose_for(&index(platforms), &host).map(|entry| entry.platform.unwrap_or_default().to_string())
    }

    #[test]
    fn the_machine_s_own_platform_is_taken() {
        let several = [
            "linux/arm64/v8",
            "windows/amd64",
            "linux/amd64",
            "unknown/unknown",
        ];
        assert_eq!(chosen(&several, "linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(
            chosen(&several, "linux/arm64/v8").as_deref(),
            Some("linux/arm64/v8")
        );
        assert_eq!(chosen(&several, "linux/riscv64"), None);
    }

    #[test]
    fn a_newer_variant_than_the_machine_is_not_taken() {
        assert_eq!(
            chosen(&["linux/amd64/v3", "linux/amd64"], "linux/amd64").as_deref(),
            Some("linux/amd64")
        );
        assert_eq!(
            chosen(&["linux/arm/v5", "linux/arm/v7"], "linux/arm/v7").as_deref(),
            Some("linux/arm/v7")
        );
        assert_eq!(chosen(&["linux/arm/v7"], "linux/arm/v6"), None);
    }

    #[test]
    fn older_machines_count_where_there_is_nothing_better() {
        let both = ["linux/386", "linux/amd64"];
        assert_eq!(chosen(&both, "linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&both[..1], "linux/amd64").as_deref(), Some("linux/386"));
        let arms = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"];
        assert_eq!(chosen(&arms, "linux/arm64/v8").as_deref(), Some("linux/arm/v7"));
        assert_eq!(
            chosen(&["linux/arm64"], "linux/arm64/v8").as_deref(),
            Some("linux/arm64")
        );
        assert_eq!(chosen(&["linux/amd64/v2"], "linux/amd64"), None);
    }

    #[test]
    fn a_single_manifest_without_platform_is_taken() {
        assert_eq!(chosen(&[""], "linux/amd64").as_deref(), Some("/"));
        assert_eq!(chosen(&["", ""], "linux/amd64"), None);
    }
}
