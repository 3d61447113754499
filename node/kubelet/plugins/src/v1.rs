//! Messages, client and server stubs generated from `proto/registration.proto`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("pluginregistration");
