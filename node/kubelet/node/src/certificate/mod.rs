//! The node's certificates: their files, getting new ones, and showing them.

mod client_ca;
mod follow;
mod given;
mod manager;
mod request;
mod serving;
mod store;

pub(crate) use client_ca::ClientCa;
pub use given::GivenCertificate;
pub(crate) use manager::{Manager, Template};
pub(crate) use request::{
    CLIENT_SIGNER, PendingRequest, SERVING_SIGNER, request_pem, usages_of, wait_signed,
};
pub use serving::ServingCertificate;
pub(crate) use serving::self_signed;
pub use store::CertificateStore;
