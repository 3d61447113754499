//! Linux primitives: namespaces, mounts, openat2, cgroup queries, processes.
