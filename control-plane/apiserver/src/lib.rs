//! Generic Kubernetes API registry: HTTP, authentication, authorization, watch fan-out.
//!
//! [`ApiServer::start`] loads a cluster's state from a store; [`ApiServer::serve`] answers HTTPS and
//! [`ApiServer::service`] clients in the same process. What a kind is stands in `knode-kinds`: here every verb
//! is written once, over any row of that table.

mod admission;
mod alloc;
mod auth;
mod cache;
mod clock;
mod config;
mod core;
mod discovery;
mod handler;
mod health;
mod http;
mod kubelet;
mod metrics;
mod nonresource;
mod registry;
mod request;
mod server;
mod subresource;
mod user;
mod virtuals;

pub use auth::parse_token_file;
pub use config::{ApiServerConfig, Credentials, NodeBindings, TlsIdentity, kubernetes_address};
pub use http::{Body, BoxError};
pub use server::{ApiServer, Error, LocalService};
pub use user::{AUTHENTICATED, MASTERS, UNAUTHENTICATED, UserInfo};
