//! The container engine behind the CRI traits: sandboxes, containers, shims, logs, streaming.
