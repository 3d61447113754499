//! What the engine keeps on disk.

mod layout;
mod records;
mod store;

pub use layout::Layout;
pub use records::{ContainerRecord, Ended, SandboxRecord, Started};
pub(crate) use store::{load_all, read_exit, remove_dir, write_atomic, write_record};

/// Identifies the running kernel, so that records of an earlier boot are known as such.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_string()
}
