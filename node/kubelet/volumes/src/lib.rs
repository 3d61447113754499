//! Volumes of a pod: planning and atomic materialization.
//!
//! [`plan`] turns a pod's volumes into typed [`Volume`]s without any I/O; [`Volumes`] makes them real below
//! the pod's directory, keeps their content current and takes them away again. What has to be read from
//! the API (config maps, secrets, tokens) comes through the trait [`Objects`].

mod atomic;
mod disk;
mod drivers;
mod error;
mod fields;
mod mount;
mod nfs;
mod objects;
mod paths;
mod payload;
mod plan;
mod subpath;
mod token;
mod volumes;

pub use drivers::{DriverMount, DriverUsage, DriverVolume, Drivers, SecretName, Size};
pub use error::{Phase, VolumeError};
pub use fields::{FieldError, PodFields, format_map, resource_value};
pub use nfs::Export;
pub use objects::{ObjectError, Objects, Token, TokenQuery, TrustQuery};
pub use paths::PodPaths;
pub use payload::{Payload, PayloadFile};
pub use plan::{
    ClaimRef, DownwardItem, DownwardSource, Items, KeyPath, ObjectRef, ProjectedSource, References, Volume,
    VolumeKind, plan, references,
};
pub use volumes::{SetUp, Volumes, own};
