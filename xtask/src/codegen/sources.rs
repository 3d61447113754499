//! Where cargo keeps the two crates' sources.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// Directories of API groups' sources.
pub struct Sources {
    /// k8s-openapi's directory of the API version that the table describes.
    pub openapi: PathBuf,
    /// k8s-pb's `src`.
    pub protobuf: PathBuf,
}

const OPENAPI_VERSION: &str = "v1_36";
const PROTOBUF_CRATE: &str = "k8s-pb-0.9.0";

/// Asks `cargo metadata` for k8s-openapi; k8s-pb lies beside it (no part of knode is built with it).
pub fn find(root: &Path) -> anyhow::Result<Sources> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    }
    let metadata: Value = serde_json::from_slice(&out.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let openapi = packages
        .iter()
        .find(|p| p["name"] == "k8s-openapi")
        .context("no package k8s-openapi")?;
    let manifest = openapi["manifest_path"]
        .as_str()
        .context("k8s-openapi has no manifest")?;
    let openapi = Path::new(manifest)
        .parent()
        .context("manifest has no directory")?;
    let registry = openapi.parent().context("crate lies in no registry")?;
    let protobuf = registry.join(PROTOBUF_CRATE).join("src");
    if !protobuf.is_dir() {
        bail!("{PROTOBUF_CRATE} is not unpacked in cargo's registry: fetch it once in a throw-away package");
    }
    Ok(Sources {
        openapi: openapi.join("src").join(OPENAPI_VERSION),
        protobuf,
    })
}
