//! The targets.

use knode_cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use knode_testkit::Scratch;
use prost::Message;

/// Something that takes other people's bytes.
pub struct Target {
    /// Its name, and that of its directory in `corpus`.
    pub name: &'static str,
    /// Takes bytes; panics for what must not be.
    pub run: fn(&[u8]),
    /// Mutations in a run of the tests.
    pub rounds: u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("manifest", knode_images::fuzz::manifest, 40_000),
    target("layer", layer, 800),
    target("sandbox", sandbox, 40_000),
    target("container", container, 4_000),
    target("resources", resources, 20_000),
    target("spdy", knode_engine::fuzz::spdy, 20_000),
    target("files", knode_engine::fuzz::files, 10_000),
    target("hosts", knode_images::fuzz::hosts, 20_000),
    target("credentials", knode_images::fuzz::credentials, 40_000),
    target("challenge", knode_images::fuzz::challenge, 40_000),
    target("reference", knode_images::fuzz::reference, 40_000),
];

const fn target(name: &'static str, run: fn(&[u8]), rounds: u64) -> Target {
    Target { name, run, rounds }
}

fn layer(bytes: &[u8]) {
    let scratch = Scratch::new("fuzz-layer");
    knode_images::fuzz::layer(bytes, scratch.path());
}

fn sandbox(bytes: &[u8]) {
    if let Ok(config) = PodSandboxConfig::decode(bytes) {
        knode_engine::fuzz::sandbox(&config);
    }
}

/// The container's configuration and, after it, its pod's, each behind its length (`CreateContainerRequest` has both).
fn container(bytes: &[u8]) {
    let Ok(request) = knode_cri::CreateContainerRequest::decode(bytes) else {
        return;
    };
    let config: ContainerConfig = request.config.unwrap_or_default();
    knode_engine::fuzz::container(&config, &request.sandbox_config.unwrap_or_default());
}

fn resources(bytes: &[u8]) {
    if let Ok(resources) = LinuxContainerResources::decode(bytes) {
        knode_engine::fuzz::resources(&resources);
    }
}
