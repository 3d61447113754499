//! Generates the CRI messages and gRPC stubs without a `protoc` on the machine.

/// What engines keep on disk: the two configurations and all that they hold.
const STORED: &[&str] = &[
    "CDIDevice",
    "Capability",
    "ContainerConfig",
    "ContainerMetadata",
    "DNSConfig",
    "Device",
    "HugepageLimit",
    "IDMapping",
    "ImageSpec",
    "Int64Value",
    "KeyValue",
    "LinuxContainerConfig",
    "LinuxContainerResources",
    "LinuxContainerSecurityContext",
    "LinuxPodSandboxConfig",
    "LinuxSandboxSecurityContext",
    "Mount",
    "NamespaceOption",
    "PodSandboxConfig",
    "PodSandboxMetadata",
    "PortMapping",
    "SELinuxOption",
    "SecurityProfile",
    "UserNamespace",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/api.proto");
    let descriptors = protox::compile(["proto/api.proto"], ["proto"])?;
    let mut builder = tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .skip_debug(["runtime.v1.AuthConfig"]);
    for name in STORED {
        let path = format!(".runtime.v1.{name}");
        builder = builder.message_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)]");
        builder = builder.message_attribute(&path, "#[serde(default)]");
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
