//! Who asks, and whether he may.

mod attributes;
mod authenticate;
mod authorize;
mod impersonate;
mod node;
pub(crate) mod policy;
mod rbac;
pub(crate) mod service_account;
mod token;

pub(crate) use attributes::Attributes;
pub(crate) use authenticate::Authenticator;
pub(crate) use authorize::{Authorizer, Decision};
pub(crate) use impersonate::impersonate;
pub(crate) use rbac::Rule;
pub use token::parse_token_file;
pub(crate) use token::user_value;
