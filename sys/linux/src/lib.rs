//! Linux primitives: namespaces, mounts, openat2, cgroup queries, processes.

pub mod cgroup;
pub mod clock;
pub mod fds;
pub mod filewatch;
pub mod loopback;
pub mod memory;
pub mod namespace;
pub mod openat;
pub mod overlay;
pub mod port;
pub mod process;
pub mod seclude;
pub mod signal;
pub mod sync;
pub mod tty;
pub mod xattr;
