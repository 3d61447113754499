//! Processors: exclusive ones and the shared rest (upstream: `pkg/kubelet/cm/cpumanager`).

mod options;
mod policy;
mod state;
mod take;
#[cfg(test)]
mod tests;

pub use options::CpuOptions;
pub use policy::{CpuError, StaticCpus};
pub use state::CpuState;

/// `cpuManagerPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CpuPolicy {
    /// `none`: everybody runs everywhere.
    #[default]
    None,
    /// `static`: whole processors of guaranteed pods are theirs alone.
    Static(CpuOptions),
}

impl CpuPolicy {
    /// The word of the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Static(_) => "static",
        }
    }
}
