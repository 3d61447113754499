use knode_nft::iptables;

/// Why iptables did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// It is not installed.
    #[error(
        "the proxy mode iptables needs {program}, which is not installed; the mode nftables needs no program"
    )]
    Missing {
        /// Which program.
        program: String,
    },
    /// It could not be run, or refused.
    #[error(transparent)]
    Program(iptables::Error),
    /// Tracked flows could not be looked at or deleted.
    #[error("cannot end the tracked flows of endpoints that are gone")]
    Conntrack(#[source] knode_nft::Error),
}

impl From<iptables::Error> for IptablesError {
    fn from(error: iptables::Error) -> Self {
        match error {
            iptables::Error::Missing { program } => Self::Missing { program },
            other => Self::Program(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use knode_nft::IpFamily;
    use knode_nft::iptables::Programs;

    use super::*;

    #[test]
    fn a_host_without_iptables_is_refused_by_name() {
        let programs = Programs::of(IpFamily::V4, "-of-nobody");
        let error = IptablesError::from(programs.check().expect_err("nobody has it"));
        assert_eq!(
            error.to_string(),
            "the proxy mode iptables needs iptables-of-nobody-restore, which is not installed; \
             the mode nftables needs no program"
        );
    }
}
