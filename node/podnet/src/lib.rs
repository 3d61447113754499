//! The pod's interface: bridge, veth, addresses.
