//! Messages, client and server stubs generated from `proto/api.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("runtime.v1");
