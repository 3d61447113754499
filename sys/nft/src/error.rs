use std::io;

/// What can go wrong between us and nf_tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The netlink socket cannot be had (no CAP_NET_ADMIN, no nf_tables in the kernel).
    #[error("cannot open a netfilter netlink socket")]
    Open(#[source] io::Error),
    /// A request did not leave.
    #[error("cannot send {what}")]
    Send {
        /// What was sent.
        what: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The answer could not be read.
    #[error("cannot read the kernel's answer to {what}")]
    Receive {
        /// What was asked.
        what: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// One command of a batch was refused; nothing of the batch was applied.
    #[error("the kernel refused `{command}`")]
    Refused {
        /// The command that failed, as text.
        command: String,
        /// The errno behind it.
        #[source]
        source: io::Error,
    },
    /// The batch as a whole was refused; nothing of it was applied.
    #[error("the kernel refused the batch for {table}")]
    Commit {
        /// The table of the batch.
        table: String,
        /// The errno behind it.
        #[source]
        source: io::Error,
    },
    /// Someone changed the ruleset after the generation that the batch was made for.
    #[error("the ruleset is no longer of generation {expected}")]
    GenerationChanged {
        /// The generation the batch asked for.
        expected: u32,
    },
    /// A listing failed.
    #[error("cannot list {what}")]
    List {
        /// What was listed.
        what: String,
        /// The errno behind it.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer was not whole.
    #[error("the kernel's answer to {what} was cut short")]
    Truncated {
        /// What was asked.
        what: String,
    },
}

impl Error {
    /// The errno that the kernel answered with, if it answered with one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source)
            | Self::Send { source, .. }
            | Self::Receive { source, .. }
            | Self::Refused { source, .. }
            | Self::Commit { source, .. }
            | Self::List { source, .. } => source.raw_os_error(),
            Self::GenerationChanged { .. } => Some(libc::ERESTART),
            Self::Truncated { .. } => None,
        }
    }

    /// Whether the object named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }
}
