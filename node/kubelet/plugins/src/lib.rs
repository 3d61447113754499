//! Finds plugins by the sockets that they put into a directory, and tells those that serve their kind.
//!
//! A plugin (a CSI driver, a device plugin, a driver of dynamic resources) puts a socket below
//! `/var/lib/kubelet/plugins_registry`. [`Watcher`] asks it there what it is, and gives it to the [`Handler`] of its
//! kind; when the socket goes, so does the plugin. [`plan::plan`] is pure and decides what is done when.

mod handler;
pub mod plan;
mod registration;
mod scan;
pub mod v1;
mod watcher;

pub use handler::{Handler, Plugin, Refusal};
pub use registration::RegistrationError;
pub use watcher::{Watcher, WatcherError};

/// [`Handler::kind`] of CSI drivers.
pub const CSI_PLUGIN: &str = "CSIPlugin";

/// [`Handler::kind`] of device plugins.
pub const DEVICE_PLUGIN: &str = "DevicePlugin";

/// [`Handler::kind`] of drivers of dynamic resources.
pub const DRA_PLUGIN: &str = "DRAPlugin";
