//! The pod network as a CNI plugin (spec 1.1): ADD, DEL, CHECK, GC, STATUS, VERSION for container engines other than
//! knode's own. Request and answer are pure; what is done is the pod network's.

mod answer;
mod call;
mod check;
mod error;
mod loopback;
mod plugin;
mod runtime;
#[cfg(test)]
mod tests;

pub use plugin::{Answer, plugin, process};

/// Versions of the specification that are spoken, oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
