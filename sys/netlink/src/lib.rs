//! Typed route netlink: links, addresses, routes, neighbours, FDB; namespaces.
