//! Flannel-compatible overlay: leases of subnets, upstream's backends, the subnet file, masquerading.
//!
//! Each node leases a subnet of the pod network and tells the others under which address, and as which Ethernet
//! station, it takes packets for it. From own lease, others' leases and configuration the planner derives what the
//! kernel should hold; the difference to what it holds is executed, at every change of either.

mod config;
mod docker_opts;
mod error;
mod etcd;
mod extension;
mod flags;
mod iptables;
mod kernel;
mod lease;
mod masquerade;
mod overlap;
mod overlay;
mod plan;
mod store;
mod subnet_file;
mod teardown;
mod underlay;
mod wireguard;

pub use config::{
    Backend, ExtensionConf, Ipv6Conf, NetConf, NetConfError, VxlanConf, WireguardConf, WireguardMode,
};
pub use docker_opts::{DockerOpts, DockerOptsError};
pub use error::{Error, Result};
pub use etcd::{Access, Credentials, Etcd, EtcdError, Tls};
pub use flags::{FlagError, Flags, Interfaces, Invocation, LeasesIn};
pub use kernel::{Kernel, host_routes};
pub use lease::{BackendData, Lease, LeaseAttributes, Leases};
pub use masquerade::{Masquerade, Rules, TABLE as NFT_TABLE};
pub use overlap::{HostRoute, Other, Overlap, check_overlap};
pub use overlay::{Config, Overlay, Subnet};
pub use plan::{Desired, Device, Observed, Path, Peer, Step, Tunnel, plan};
pub use store::{
    EtcdConfig, EtcdLeases, KubernetesLeases, LeaseStore, Listed, Prefix, Previous, StoreError, SubnetKey,
    list_leases, read_config,
};
pub use subnet_file::{SubnetFile, SubnetFileError};
pub use teardown::teardown;
pub use underlay::{Underlay, UnderlayError, Wish, choose};
