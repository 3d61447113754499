//! Generates the messages and gRPC stubs of plugins' registration without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/registration.proto");
    let descriptors = protox::compile(["proto/registration.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
