//! Pod workers: plan(pod, observed, now) to actions; probes, status.
//!
//! [`plan::plan`] and [`status::status`] are pure and decide everything; a worker per pod (a task that
//! sleeps until something happens) carries the actions out through the CRI traits and writes the status.
//! [`Kubelet`] starts and ends workers as pods come and go, and answers questions about them.

pub mod admission;
mod api;
mod config;
mod credentials;
mod devices;
pub mod env;
mod error;
mod image;
mod kubelet;
pub mod logs;
pub mod model;
pub mod plan;
pub mod pod;
mod probe;
mod pulls;
pub mod qos;
pub mod resize;
mod rules;
pub mod spec;
mod static_pods;
pub mod status;
mod sysctls;
mod users;
mod worker;

pub use api::{ClientApi, PodApi, PodApiError, PodChange};
pub use config::{KubeletConfig, NoCgroups, NodeView, PodCgroups, SecurityModules};
pub use credentials::{CredentialProviders, NodeCredentials, NodeFile, PodAccount, ProvidersError};
pub use devices::{ContainerDevices, NoDevices, PodDevices};
pub use error::{ConfigError, Error};
pub use kubelet::{ClaimedVolume, Kubelet, ProbeCounts};
pub use logs::LogRotation;
pub use pulls::{ImageList, PullVerification, RecordsError, VerificationError};
pub use rules::{ResourceRules, Swap, page_size};
pub use static_pods::{FetchedPods, ManifestSource};
pub use worker::PodView;
