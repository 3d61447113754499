//! Generates etcd's messages and client stubs without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/etcd.proto");
    let descriptors = protox::compile(["proto/etcd.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(false)
        .build_transport(false)
        .skip_debug([
            "etcdserverpb.AuthenticateRequest",
            "etcdserverpb.AuthenticateResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
