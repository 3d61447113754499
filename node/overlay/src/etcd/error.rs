use std::path::PathBuf;

/// What can go wrong with etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// An endpoint that is no URL of `http` or `https`.
    #[error("{0:?} is no etcd endpoint (http://host:port or https://host:port)")]
    Endpoint(String),
    /// No endpoint at all.
    #[error("no etcd endpoint is given")]
    NoEndpoint,
    /// A certificate or key cannot be read.
    #[error("read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate without its key, or the other way round.
    #[error("a client certificate needs both the certificate's file and the key's")]
    HalfIdentity,
    /// TLS refuses the certificates.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// No connection.
    #[error("connect to {endpoint}")]
    Connect {
        /// Whereto.
        endpoint: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{op}: no answer from {endpoint} in time")]
    Timeout {
        /// What was asked.
        op: &'static str,
        /// Whom.
        endpoint: String,
    },
    /// etcd refused.
    #[error("{op} at {endpoint}: {}", status.message())]
    Status {
        /// What was asked.
        op: &'static str,
        /// Whom.
        endpoint: String,
        /// What it said.
        status: Box<tonic::Status>,
    },
}

impl EtcdError {
    /// Another member may do better.
    pub(super) fn elsewhere(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => matches!(
                status.code(),
                tonic::Code::Unavailable
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::Unknown
                    | tonic::Code::Cancelled
                    | tonic::Code::Internal
            ),
            _ => false,
        }
    }

    /// The token of an earlier log-in is no longer taken.
    pub(super) fn logged_out(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code() == tonic::Code::Unauthenticated)
    }

    /// Trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Endpoint(_) | Self::NoEndpoint | Self::HalfIdentity)
    }
}
