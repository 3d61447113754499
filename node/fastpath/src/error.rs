/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no short cut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lacks what the programs need, or refuses them.
    #[error("{doing}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: knode_bpf::Error,
    },
    /// Links cannot be read or watched, or a setting cannot be made.
    #[error("{doing}")]
    Netlink {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: knode_netlink::Error,
    },
    /// Connection tracking's timeouts cannot be read.
    #[error("read {path}")]
    Timeout {
        /// The setting's file.
        path: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn kernel(doing: &'static str) -> impl Fn(knode_bpf::Error) -> Self {
        move |source| Self::Kernel { doing, source }
    }

    pub(crate) fn netlink(doing: &'static str) -> impl Fn(knode_netlink::Error) -> Self {
        move |source| Self::Netlink { doing, source }
    }
}
