//! Which endpoints serve a registry: the registry itself and its mirrors, by containerd's `certs.d` layout.

mod endpoint;
mod file;
mod lookup;
mod toml;

pub(crate) use endpoint::{Endpoint, TlsFiles};
pub(crate) use lookup::endpoints;

/// Reads any text as a `hosts.toml`.
pub(crate) fn fuzz(text: &str) {
    drop(toml::parse(
        text,
        std::path::Path::new("/etc/certs.d/any/hosts.toml"),
    ));
}
