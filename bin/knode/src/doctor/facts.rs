//! What is known of a machine: everything that the checks look at, and nothing that they would have to ask for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;
use knode_linux::port::Listener;
use knode_nft::{Chain, Element, Rule};
use knode_overlay::HostRoute;

use crate::cli::PortRange;

/// The machine.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: Timestamp,
    /// The process of the knode that runs from the data directory.
    pub daemon: Option<i32>,
    pub host: Host,
    /// Whether the kernel takes its clock for synchronised.
    pub clock: Result<bool, String>,
    /// Names of swap areas in use.
    pub swaps: Vec<String>,
    /// Kernel settings by key, with dots; none where the kernel has no such setting.
    pub settings: BTreeMap<String, Option<String>>,
    pub kernel: Kernel,
    pub ports: Vec<Port>,
    pub networks: Networks,
    pub firewall: Firewall,
    pub security: Security,
    pub disks: Vec<Disk>,
    pub links: Links,
    pub reached: Vec<Reached>,
    pub certificates: Vec<CertificateFile>,
}

/// Names of the machine.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    /// The one after the next boot: what `/etc/hostname` says.
    pub kept: Option<String>,
    /// What the name resolves to.
    pub resolved: Result<Vec<IpAddr>, String>,
    /// All addresses of the machine.
    pub addresses: Vec<IpAddr>,
}

/// What the kernel can do.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub overlayfs: Result<(), String>,
    pub vxlan: Result<(), String>,
    pub nf_tables: Result<(), String>,
    /// Controllers of control groups.
    pub controllers: Result<Vec<String>, String>,
    /// Tracked connections and the most there may be.
    pub conntrack: Option<(u64, u64)>,
}

/// A port that a node listens on.
#[derive(Clone, Debug)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
    /// What for.
    pub what: &'static str,
    /// Why it can't be taken.
    pub taken: Option<Taken>,
}

#[derive(Clone, Debug)]
pub enum Taken {
    /// Somebody listens.
    By(Option<Listener>),
    /// Another reason.
    Because(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// `IPPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Addresses of the cluster, and those that are taken.
#[derive(Clone, Debug)]
pub struct Networks {
    pub pods: Vec<IpNet>,
    pub services: Vec<IpNet>,
    pub node_ports: PortRange,
    pub routes: Result<Vec<HostRoute>, String>,
}

/// Packet filters that others have made.
#[derive(Clone, Debug)]
pub struct Firewall {
    pub tables: Result<Vec<Table>, String>,
    /// Which ports must be open to others.
    pub wanted: Vec<Wanted>,
    /// Name and index of the link on which other nodes' packets arrive.
    pub arrival: Option<(String, u32)>,
    /// Whether rules of the old iptables are there, which nft does not show.
    pub legacy: bool,
}

/// A port that others must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
    pub what: &'static str,
}

/// A table of nf_tables.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Family and name.
    pub name: String,
    pub chains: Vec<Chain>,
    pub rules: Vec<Rule>,
    /// Elements of sets, by name.
    pub sets: BTreeMap<String, Vec<Element>>,
}

/// Security modules.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Whether SELinux is there, and whether it enforces.
    pub selinux: Option<bool>,
    pub apparmor: bool,
    /// Whether the program that loads AppArmor's profiles is there.
    pub apparmor_parser: bool,
}

/// A file system.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What lies there.
    pub what: &'static str,
    pub path: PathBuf,
    pub bytes: Share,
    pub inodes: Share,
}

/// How much of something is left.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub free: u64,
    pub all: u64,
}

impl Share {
    /// Percent that is free; all of it where nothing is counted.
    pub fn percent(self) -> u64 {
        (self.free.saturating_mul(100))
            .checked_div(self.all)
            .unwrap_or(100)
    }
}

/// Network links that matter.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The one that leads to other nodes, with its largest packet; or why there is none.
    pub underlay: Option<Result<(String, u32), String>>,
    /// The overlay's.
    pub overlay: Option<(String, u32)>,
}

/// Somebody who must be reached.
#[derive(Clone, Debug)]
pub struct Reached {
    pub what: &'static str,
    pub address: String,
    pub result: Result<(), String>,
}

/// A certificate on the disk.
#[derive(Clone, Debug)]
pub struct CertificateFile {
    pub path: PathBuf,
    /// Whom it names, from when and until when; or why it can't be read.
    pub content: Result<Validity, String>,
}

#[derive(Clone, Debug)]
pub struct Validity {
    pub subject: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}
