//! The direction of dependencies between our crates.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// For each crate, the crates of ours that it may name. What is missing here may name none.
///
/// Components (`node/*`, `control-plane/*`) never name one another, except the parts of one component.
const MAY: &[(&str, &[&str])] = &[
    ("knode-api", &[]),
    ("knode-pki", &[]),
    ("knode-client", &["knode-api", "knode-linux", "knode-pki"]),
    ("knode-store", &["knode-linux"]),
    ("knode-kinds", &["knode-api", "knode-pki"]),
    (
        "knode-apiserver",
        &[
            "knode-api",
            "knode-kinds",
            "knode-linux",
            "knode-pki",
            "knode-store",
        ],
    ),
    ("knode-scheduler", &["knode-api", "knode-client"]),
    ("knode-controllers", &["knode-api", "knode-client", "knode-pki"]),
    ("knode-cri", &[]),
    ("knode-images", &["knode-linux"]),
    (
        "knode-engine",
        &[
            "knode-bpf",
            "knode-cri",
            "knode-dbus",
            "knode-images",
            "knode-linux",
        ],
    ),
    ("knode-cni", &["knode-linux"]),
    ("knode-dns", &["knode-client", "knode-linux"]),
    ("knode-fastpath", &["knode-bpf", "knode-netlink"]),
    ("knode-podnet", &["knode-linux", "knode-netlink", "knode-nft"]),
    (
        "knode-overlay",
        &[
            "knode-api",
            "knode-client",
            "knode-linux",
            "knode-netlink",
            "knode-nft",
        ],
    ),
    (
        "knode-policy",
        &[
            "knode-api",
            "knode-client",
            "knode-linux",
            "knode-netlink",
            "knode-nft",
        ],
    ),
    (
        "knode-proxy",
        &[
            "knode-api",
            "knode-client",
            "knode-linux",
            "knode-netlink",
            "knode-nft",
        ],
    ),
    ("knode-volumes", &["knode-api", "knode-linux"]),
    ("knode-kubelet-config", &["knode-api"]),
    (
        "knode-kubelet",
        &[
            "knode-api",
            "knode-client",
            "knode-cri",
            "knode-kubelet-metrics",
            "knode-kubelet-resources",
            "knode-linux",
            "knode-volumes",
        ],
    ),
    (
        "knode-kubelet-node",
        &[
            "knode-api",
            "knode-client",
            "knode-cri",
            "knode-dbus",
            "knode-kubelet-metrics",
            "knode-linux",
            "knode-pki",
        ],
    ),
    (
        "knode-kubelet-csi",
        &["knode-api", "knode-cri", "knode-linux", "knode-volumes"],
    ),
    ("knode-kubelet-resources", &["knode-api"]),
    (
        "knode-kubelet-devices",
        &[
            "knode-api",
            "knode-client",
            "knode-cri",
            "knode-kubelet-plugins",
            "knode-kubelet-resources",
        ],
    ),
    ("knode-kubelet-dra", &["knode-cri", "knode-kubelet-plugins"]),
    ("knode-kubelet-metrics", &["knode-cri"]),
    ("knode-kubelet-plugins", &["knode-cri", "knode-linux"]),
    ("knode-dbus", &["knode-linux"]),
    ("knode-linux", &[]),
    ("knode-netlink", &["knode-linux"]),
    ("knode-bpf", &[]),
    ("knode-nft", &["knode-linux"]),
];

/// Crates that stand beside the floors: they may name anything.
const FREE: &[&str] = &[
    "knode",
    "knode-testkit",
    "knode-e2e",
    "knode-benches",
    "knode-fuzz",
    "xtask",
];

/// Compares every crate's own dependencies (not those of its tests) with the table.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo metadata's answer")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    Ok(packages.iter().flat_map(check_package).collect())
}

fn check_package(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    if FREE.contains(&name) {
        return Vec::new();
    }
    let Some((_, may)) = MAY.iter().find(|(n, _)| *n == name) else {
        return vec![format!(
            "{name}: unknown to xtask/src/tidy/deps.rs; add it to the table of who may name whom"
        )];
    };
    let ours = |d: &&Value| {
        d["kind"].is_null()
            && d["name"]
                .as_str()
                .is_some_and(|n| MAY.iter().any(|(m, _)| *m == n) || FREE.contains(&n))
    };
    package["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(ours)
        .filter_map(|d| d["name"].as_str())
        .filter(|d| !may.contains(d))
        .map(|d| format!("{name} depends on {d}, which ARCHITECTURE.md does not allow"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_upward_arrow_is_found() {
        let package = json!({"name": "knode-proxy", "dependencies": [
            {"name": "knode-nft", "kind": null}, {"name": "knode-overlay", "kind": null}, {"name": "serde", "kind": null}]});
        assert_eq!(check_package(&package).len(), 1);
        let unknown = json!({"name": "knode-new", "dependencies": []});
        assert_eq!(check_package(&unknown).len(), 1);
    }
}
