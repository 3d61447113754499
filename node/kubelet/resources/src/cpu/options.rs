//! `cpuManagerPolicyOptions`.

use std::collections::BTreeMap;

use crate::options::{OptionError, truth};

/// How the static policy chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// `full-pcpus-only`: whole cores, or the pod is rejected.
    pub full_cores: bool,
    /// `distribute-cpus-across-numa`: as many of each node where one node is not enough.
    pub distribute: bool,
    /// `align-by-socket`: nodes of one package count as one.
    pub align_by_socket: bool,
    /// `strict-cpu-reservation`: nobody's containers run on the reserved ones.
    pub strict_reservation: bool,
    /// `prefer-align-cpus-by-uncorecache`: processors of as few caches as can be.
    pub prefer_cache: bool,
}

impl CpuOptions {
    /// Reads them.
    ///
    /// # Errors
    /// [`OptionError`] for those that are unknown, not supported, no truth values, or exclude one another.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let what = "CPU manager";
        let mut all = Self::default();
        for (name, value) in options {
            let field = match name.as_str() {
                "full-pcpus-only" => &mut all.full_cores,
                "distribute-cpus-across-numa" => &mut all.distribute,
                "align-by-socket" => &mut all.align_by_socket,
                "strict-cpu-reservation" => &mut all.strict_reservation,
                "prefer-align-cpus-by-uncorecache" => &mut all.prefer_cache,
                "distribute-cpus-across-cores" => {
                    let name = name.clone();
                    return Err(OptionError::Unsupported { what, name });
                }
                _ => {
                    let name = name.clone();
                    return Err(OptionError::Unknown { what, name });
                }
            };
            *field = truth(name, value)?;
        }
        match all.prefer_cache && all.distribute {
            true => Err(OptionError::Together(
                "prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa can't be used at the same time",
            )),
            false => Ok(all),
        }
    }
}
