//! Messages, client and server stubs generated from `proto/dra.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");

/// The service as drivers name it when they register.
pub const SERVICE: &str = "v1.DRAPlugin";
