//! OCI images and overlayfs snapshots.
