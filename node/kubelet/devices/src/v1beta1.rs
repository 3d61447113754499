//! Messages, client and server stubs generated from `proto/device_plugin.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("v1beta1");

/// The version of the API.
pub const VERSION: &str = "v1beta1";

/// The health of a device that can be given away.
pub const HEALTHY: &str = "Healthy";

/// The socket on which plugins register, in the directory where their own sockets are.
pub const KUBELET_SOCKET: &str = "kubelet.sock";
