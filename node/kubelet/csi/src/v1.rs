//! Messages, client and server stubs generated from `proto/csi.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("csi.v1");
