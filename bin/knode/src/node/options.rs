//! What the kubelet can be told, in upstream's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use knode_kubelet::LogRotation;
use knode_kubelet_node::{EvictionConfig, ImageGcPolicy, ThresholdError, duration};
use serde_json::{Value, json};

/// The kubelet's own options.
#[derive(Args, Clone, Debug, Default)]
pub struct KubeletOptions {
    /// A directory of manifests, or one manifest: this node runs their pods, with or without an API server, and
    /// shows them there as mirror pods. It is followed while running.
    #[arg(long, value_name = "PATH")]
    pub pod_manifest_path: Option<PathBuf>,
    /// When memory, disk and process numbers count as scarce: the node then says so, takes no new pods and ends some.
    /// Signals: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree,
    /// pid.available; values: quantities or percentages. Signals that are not named keep their limits, 0% takes one
    /// away.
    #[arg(
        long,
        value_name = "SIGNAL<VALUE,...",
        default_value = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"
    )]
    pub eviction_hard: String,
    /// Limits that must be met for some time before pods are ended, each with its time in
    /// --eviction-soft-grace-period.
    #[arg(
        long,
        value_name = "SIGNAL<VALUE,...",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_soft: String,
    /// How long each limit of --eviction-soft must be met.
    #[arg(
        long,
        value_name = "SIGNAL=DURATION,...",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_soft_grace_period: String,
    /// How much more than the limit must be free again once it was met.
    #[arg(
        long,
        value_name = "SIGNAL=VALUE,...",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_minimum_reclaim: String,
    /// Seconds that a pod ended for a limit of --eviction-soft may take, at most; 0 leaves it its own time.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub eviction_max_pod_grace_period: u32,
    /// How long a pressure must be gone before the node reports it gone.
    #[arg(long, value_name = "DURATION", default_value = "5m0s")]
    pub eviction_pressure_transition_period: String,
    /// Percentage of the images' file system in use from which on unused images are removed; 100 means never.
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_threshold: u8,
    /// Percentage in use down to which unused images are removed.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_threshold: u8,
    /// How long an image has been known at least before it is removed as unused.
    #[arg(long, value_name = "DURATION", default_value = "2m0s")]
    pub minimum_image_ttl_duration: String,
    /// Size from which on a container's log is rotated.
    #[arg(long, value_name = "SIZE", default_value = "10Mi")]
    pub container_log_max_size: String,
    /// How many files a container's log may have; at least 2.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    pub container_log_max_files: u16,
    /// How long the node asks its certificates to live, ten minutes at least; the cluster may give less [default: the
    /// cluster decides].
    #[arg(long, value_name = "TIME", value_parser = crate::pki::parse_requested_life)]
    pub certificate_duration: Option<std::time::Duration>,
}

/// The same, read.
#[derive(Clone, Debug)]
pub struct KubeletSettings {
    pub eviction: EvictionConfig,
    pub image_gc: ImageGcPolicy,
    pub logs: LogRotation,
}

/// An option that cannot be read or does not fit another.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("--{option}: {source}")]
    Value {
        option: &'static str,
        source: ThresholdError,
    },
    #[error("--container-log-max-size {0:?} is not a size such as 10Mi")]
    LogSize(String),
    #[error("--image-gc-high-threshold {high} is not above --image-gc-low-threshold {low}")]
    ImageThresholds { high: u8, low: u8 },
}

fn of<T>(option: &'static str, read: Result<T, ThresholdError>) -> Result<T, OptionError> {
    read.map_err(|source| OptionError::Value { option, source })
}

impl KubeletOptions {
    /// Reads all of them.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn settings(&self) -> Result<KubeletSettings, OptionError> {
        Ok(KubeletSettings {
            eviction: self.eviction()?,
            image_gc: self.image_gc()?,
            logs: self.logs()?,
        })
    }

    /// Where the manifests of static pods lie, as an absolute path.
    pub fn static_pods(&self) -> Option<PathBuf> {
        let path = self.pod_manifest_path.as_ref()?;
        Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
    }

    /// The same as fields of a `KubeletConfiguration`.
    pub fn configz(&self) -> Value {
        let mut shown = json!({
            "containerLogMaxSize": self.container_log_max_size,
            "containerLogMaxFiles": self.container_log_max_files,
            "imageGCHighThresholdPercent": self.image_gc_high_threshold,
            "imageGCLowThresholdPercent": self.image_gc_low_threshold,
            "imageMinimumGCAge": self.minimum_image_ttl_duration,
            "evictionHard": pairs(&self.eviction_hard, '<'),
            "evictionPressureTransitionPeriod": self.eviction_pressure_transition_period,
            "evictionMaxPodGracePeriod": self.eviction_max_pod_grace_period,
        });
        let lists = [
            ("evictionSoft", &self.eviction_soft, '<'),
            ("evictionSoftGracePeriod", &self.eviction_soft_grace_period, '='),
            ("evictionMinimumReclaim", &self.eviction_minimum_reclaim, '='),
        ];
        for (name, text, between) in lists.into_iter().filter(|(_, text, _)| !text.is_empty()) {
            shown[name] = json!(pairs(text, between));
        }
        if let Some(path) = self.static_pods() {
            shown["staticPodPath"] = json!(path);
        }
        shown
    }

    fn eviction(&self) -> Result<EvictionConfig, OptionError> {
        let hard = of(
            "eviction-hard",
            EvictionConfig::default().hard(&self.eviction_hard),
        )?;
        let soft = hard.soft(&self.eviction_soft, &self.eviction_soft_grace_period);
        let all = of("eviction-soft", soft)?.minimum_reclaim(&self.eviction_minimum_reclaim);
        let transition = duration(&self.eviction_pressure_transition_period);
        Ok(EvictionConfig {
            max_pod_grace: i64::from(self.eviction_max_pod_grace_period),
            transition: of("eviction-pressure-transition-period", transition)?,
            ..of("eviction-minimum-reclaim", all)?
        })
    }

    fn image_gc(&self) -> Result<ImageGcPolicy, OptionError> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        if high <= low {
            return Err(OptionError::ImageThresholds { high, low });
        }
        Ok(ImageGcPolicy {
            high,
            low,
            min_age: of(
                "minimum-image-ttl-duration",
                duration(&self.minimum_image_ttl_duration),
            )?,
            ..ImageGcPolicy::default()
        })
    }

    fn logs(&self) -> Result<LogRotation, OptionError> {
        let text = &self.container_log_max_size;
        let wrong = || OptionError::LogSize(text.clone());
        let size = knode_api::quantity::Quantity::parse(text).map_err(|_| wrong())?;
        let max_size = u64::try_from(size.value()).ok().filter(|size| *size > 0);
        Ok(LogRotation {
            max_size: max_size.ok_or_else(wrong)?,
            max_files: usize::from(self.container_log_max_files),
            ..LogRotation::default()
        })
    }
}

/// A list of pairs as a map.
fn pairs(text: &str, between: char) -> BTreeMap<&str, &str> {
    text.split(',')
        .filter_map(|part| part.trim().split_once(between))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: KubeletOptions,
    }

    fn read(arguments: &[&str]) -> Result<KubeletSettings, String> {
        let line = Line::try_parse_from([&["kubelet"], arguments].concat());
        line.map_err(|error| error.to_string())?
            .options
            .settings()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_everything_is_upstreams() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.eviction, EvictionConfig::default());
        assert_eq!(settings.image_gc, ImageGcPolicy::default());
        assert_eq!(settings.logs, LogRotation::default());
    }

    #[test]
    fn configz_shows_what_was_set() {
        let line = [
            "kubelet",
            "--pod-manifest-path=/etc/pods",
            "--eviction-hard=memory.available<1Gi",
        ];
        let shown = Line::try_parse_from(line).unwrap().options.configz();
        assert_eq!(shown["staticPodPath"], "/etc/pods");
        assert_eq!(shown["evictionHard"], json!({"memory.available": "1Gi"}));
        assert!(shown.get("evictionSoft").is_none());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong = |arguments: &[&str]| read(arguments).unwrap_err();
        assert!(wrong(&["--eviction-hard=cpu.available<1"]).contains("cpu.available"));
        assert!(wrong(&["--eviction-soft=memory.available<1Gi"]).contains("grace period"));
        assert!(wrong(&["--image-gc-high-threshold=80"]).contains("--image-gc-low-threshold 80"));
        assert!(wrong(&["--container-log-max-size=much"]).contains("much"));
        assert!(wrong(&["--container-log-max-files=1"]).contains("2.."));
        assert!(wrong(&["--minimum-image-ttl-duration=soon"]).contains("minimum-image-ttl-duration"));
    }
}
