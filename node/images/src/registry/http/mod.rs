//! HTTP/1.1 to registries: connections that are used again, TLS, proxies, redirects, time-outs.

mod client;
mod connect;
mod redirect;
mod tls;

pub(super) use client::{Answer, Client, Reader, Request};
pub(super) use redirect::origin;
