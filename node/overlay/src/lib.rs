//! Flannel-compatible overlay: leases, backends, subnet file.
