//! Gathers the facts. Each part is thin: it reads, and judges nothing.

mod kernel;
mod machine;
mod network;

use std::path::PathBuf;

use jiff::Timestamp;

pub use kernel::setting_file;

use super::DoctorArgs;
use super::facts::Facts;
use crate::cluster::State;
use crate::layout::Layout;
use crate::lock;

/// Everything about this machine.
pub async fn all(args: &DoctorArgs) -> Facts {
    let layout = Layout::new(&args.data.data_dir);
    // A broken state file is `up`'s business; here only its ranges are missed.
    let state = State::load(&layout.state_file()).unwrap_or_default();
    let networks = network::networks(args, &state);
    let links = network::links();
    Facts {
        now: Timestamp::now(),
        daemon: lock::holder(&layout.lock_file()),
        host: machine::host().await,
        clock: knode_linux::clock::is_synchronised().map_err(|e| e.to_string()),
        swaps: machine::swaps(),
        settings: kernel::settings(),
        kernel: kernel::features(),
        ports: network::ports(args, &state),
        firewall: network::firewall(&networks, args.control_plane(&state)),
        networks,
        security: kernel::security(),
        disks: machine::disks(&layout),
        links,
        reached: network::reach(args, &state).await,
        certificates: machine::certificates(&certificate_places(&layout, args)),
    }
}

fn certificate_places(layout: &Layout, args: &DoctorArgs) -> Vec<PathBuf> {
    let own = [layout.pki_dir(), layout.cert_dir()];
    own.into_iter().chain(args.certificate.iter().cloned()).collect()
}
