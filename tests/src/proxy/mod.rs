//! The service proxy alone, on a host of its own, before a control plane on another: pods behind it, clients outside.

mod load;
mod objects;
mod pod;
mod probe;
mod site;

pub use load::{Kept, Wrk};
pub use objects::{address, at, service, slice};
pub use pod::{ECHO_PORT, HTTP_PORT, Pod, UDP_PORT};
pub use probe::{Answers, Client, Said, reached};
pub use site::{ProxySite, User};
