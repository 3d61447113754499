//! Generates the messages and gRPC stubs of device plugins and of the pod-resources API without a `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in ["proto/device_plugin.proto", "proto/pod_resources.proto"] {
        println!("cargo:rerun-if-changed={file}");
        let descriptors = protox::compile([file], ["proto"])?;
        tonic_prost_build::configure()
            .btree_map(".")
            .compile_fds(descriptors)?;
    }
    Ok(())
}
