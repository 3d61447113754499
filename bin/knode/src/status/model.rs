//! What runs on a node, as far as it could be asked.

use jiff::Timestamp;
use serde::Serialize;

use crate::upgrade::life::Life;

/// The whole screen. What could not be reached is in `unreached`, with the reason.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub daemon: Option<Life>,
    pub node: Option<Node>,
    pub peers: Vec<Peer>,
    pub services: Option<Services>,
    pub pods: Vec<Pod>,
    pub images: Vec<String>,
    pub certificates: Vec<Certificate>,
    pub warnings: Vec<Warning>,
    pub unreached: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub version: String,
    pub addresses: Vec<String>,
    pub pod_cidrs: Vec<String>,
    pub unschedulable: bool,
    pub conditions: Vec<Condition>,
    /// When the node's lease was renewed last.
    pub renewed: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub message: String,
}

impl Condition {
    /// Whether it is as it should be: Ready, and no pressure.
    pub fn is_well(&self) -> bool {
        (self.kind == "Ready") == (self.status == "True")
    }
}

/// Another node of the overlay.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    pub name: String,
    pub address: String,
    pub pod_cidrs: Vec<String>,
    pub ready: bool,
}

/// Services, and how many of their ports this node's rules know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    pub services: usize,
    pub ports: usize,
    pub programmed: usize,
    /// Those that are not programmed, `namespace/name:port`.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub phase: String,
    pub ready: usize,
    pub containers: usize,
    pub restarts: i32,
    pub ip: String,
    /// Working set, bytes.
    pub memory: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub file: String,
    pub subject: String,
    pub not_after: Timestamp,
    pub days_left: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    pub last: Option<Timestamp>,
    pub object: String,
    pub reason: String,
    pub message: String,
    pub count: i32,
}
