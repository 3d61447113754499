mod config;
mod convert;
mod error;
mod feed;
mod http;
mod objects;
mod resolv;
mod run;
mod server;
mod tcp;
mod udp;

pub use config::Config;
pub use error::Error;
pub use run::Dns;
pub use server::{Server, SharedModel};
