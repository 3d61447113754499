//! Messages, client and server stubs generated from `proto/pod_resources.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("v1");
