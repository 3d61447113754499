//! The mode for hosts that demand iptables: the chains of upstream's `pkg/proxy/iptables` under their names, as text
//! for `iptables-restore --noflush`. All of it is pure; [`crate::apply`] runs the programs.
//!
//! Rules are written as `iptables-save` prints them, so that what is planned and what is there can be compared.

mod chains;
mod cleanup;
mod fragment;
mod names;
mod rules;
mod save;
mod skeleton;
mod tables;

pub use chains::{Chains, Rules, Table};
pub use cleanup::cleanup;
pub use fragment::Fragment;
pub use names::{Chain, is_ours, is_per_service};
pub use save::Saved;
pub use skeleton::{CANARY, CANARY_TABLES, jumps};
pub use tables::{Forwarding, Tables, full, partial};
