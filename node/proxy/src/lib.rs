//! Service proxy: services and endpoint slices to nftables.
