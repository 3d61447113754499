//! Why claims cannot be used.

use std::io;
use std::path::PathBuf;

use knode_cri::CriError;

/// A pod's claims are not ready, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// What was made ready before cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// What is made ready cannot be remembered.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// The claim of a template is not made yet.
    #[error("the ResourceClaim of pod claim \"{0}\" is not created yet")]
    NotCreated(String),
    /// The API server does not give the claim.
    #[error("failed to fetch ResourceClaim {name} referenced by pod {pod}: {why}")]
    Fetch {
        /// The claim.
        name: String,
        /// The pod's name.
        pod: String,
        /// What it said.
        why: String,
    },
    /// The claim was made for another pod.
    #[error("ResourceClaim {name} was not created for pod {pod} (pod is not owner)")]
    NotOwner {
        /// The claim.
        name: String,
        /// The pod's name.
        pod: String,
    },
    /// The claim is not reserved for the pod.
    #[error("pod {pod} ({pod_uid}) is not allowed to use ResourceClaim {name} ({uid})")]
    NotReserved {
        /// The pod's name.
        pod: String,
        /// The pod's uid.
        pod_uid: String,
        /// The claim.
        name: String,
        /// The claim's uid.
        uid: String,
    },
    /// Nothing was allocated for the claim.
    #[error("ResourceClaim {0} is not allocated")]
    NotAllocated(String),
    /// One of the same name was not taken back yet.
    #[error("old ResourceClaim with same name {name} and different UID {uid} still exists")]
    Replaced {
        /// The claim.
        name: String,
        /// The old one's uid.
        uid: String,
    },
    /// Nobody here serves the driver's devices.
    #[error("DRA driver {0} is not registered")]
    NoDriver(String),
    /// A driver failed altogether.
    #[error("{call} failed: {}", source.rpc_text())]
    Call {
        /// What it was asked.
        call: &'static str,
        /// Its answer.
        source: CriError,
    },
    /// A driver failed for one claim.
    #[error("{call} failed for ResourceClaim {name}: {why}")]
    Claim {
        /// What it was asked.
        call: &'static str,
        /// The claim.
        name: String,
        /// Its answer.
        why: String,
    },
    /// A driver said nothing about a claim.
    #[error("{call} left out ResourceClaim {name}")]
    LeftOut {
        /// What it was asked.
        call: &'static str,
        /// The claim.
        name: String,
    },
    /// A container uses a claim that was not made ready.
    #[error("unable to get claim info for claim {name} in namespace {namespace}")]
    NotPrepared {
        /// The claim.
        name: String,
        /// Its namespace.
        namespace: String,
    },
}
