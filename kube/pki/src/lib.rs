//! Certificate authority, certificates, signing requests, kubeconfigs, rotation plans.
//!
//! Nothing here speaks to an API server: the crate makes and reads the material, `knode-client` uses it.

mod ca;
mod certificate;
mod control_plane;
mod detached;
mod error;
pub mod files;
pub mod inventory;
mod jwt;
mod key;
pub mod kubeconfig;
mod name;
mod request;
pub mod rotation;
mod token;
mod usage;

pub use ca::{
    AuthorityFiles, CA_CERT_FILE, CA_KEY_FILE, CA_LIFETIME, CertificateAuthority, Identity, Profile,
};
pub use certificate::{
    Certificate, SubjectAltNames, identity_from_der, pem_certificates, public_key_hash, split_identity_pem,
};
pub use control_plane::{ApiServerSans, CA_NAME, ControlPlanePki, IdentityFile, LIFETIME, Terms};
pub use error::Error;
pub use jwt::{JwtError, ServiceAccountKey, VerifyingKeys};
pub use key::PrivateKey;
pub use name::Subject;
pub use request::SigningRequest;
pub use token::BootstrapToken;
pub use usage::Usage;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
