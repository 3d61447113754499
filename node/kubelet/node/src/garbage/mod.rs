//! Taking away images that nobody uses (upstream: `pkg/kubelet/images/image_gc_manager.go`).

mod census;
mod collect;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use collect::ImageGc;

/// When images are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGcPolicy {
    /// Percentage of the images' file system in use from which on images are taken away; 100 means never.
    pub high: u8,
    /// Percentage down to which they are.
    pub low: u8,
    /// How long an image has been known at least before it goes.
    pub min_age: Duration,
    /// An image that nobody has used for longer goes, however much space there is; zero for never.
    pub max_age: Duration,
    /// Pause between two looks.
    pub interval: Duration,
}

impl Default for ImageGcPolicy {
    /// Upstream's: 85 %, 80 %, two minutes, every five minutes.
    fn default() -> Self {
        Self {
            high: 85,
            low: 80,
            min_age: Duration::from_secs(120),
            max_age: Duration::ZERO,
            interval: Duration::from_secs(300),
        }
    }
}
