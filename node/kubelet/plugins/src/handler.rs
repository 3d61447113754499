//! Who serves a kind of plugins.

use std::path::PathBuf;

use async_trait::async_trait;

/// A plugin as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name: the CSI driver's, the device plugin's resource, the driver of dynamic resources.
    pub name: String,
    /// The socket on which it serves; the one on which it registers, if it names no other.
    pub endpoint: PathBuf,
    /// The versions (CSI, device plugins) or services (dynamic resources) that it serves.
    pub versions: Vec<String>,
    /// The socket on which it registers. Two sockets may present a plugin of the same name, such as while it is
    /// replaced.
    pub socket: PathBuf,
}

/// Why a plugin is not taken; the plugin is told, and asked again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Serves the plugins of one kind. The calls about one socket come one after the other; those about different sockets
/// may come at once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The kind, as plugins name it: [`crate::CSI_PLUGIN`], [`crate::DEVICE_PLUGIN`], [`crate::DRA_PLUGIN`].
    fn kind(&self) -> &'static str;

    /// Whether the plugin can be taken at all: its name and versions. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn validate(&self, plugin: &Plugin) -> Result<(), Refusal>;

    /// Takes the plugin into use. After an error [`Handler::deregister`] is called.
    ///
    /// # Errors
    /// Why it cannot be used.
    async fn register(&self, plugin: &Plugin) -> Result<(), Refusal>;

    /// The plugin's socket is gone, or another has taken its place, which registers anew after this.
    async fn deregister(&self, plugin: &Plugin);
}
