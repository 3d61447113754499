//! Values that must be within limits or fit one another (upstream: `pkg/kubelet/apis/config/validation/validation.go`).

use std::time::Duration;

use knode_api::names;
use knode_api::time::format_duration;

use crate::defaults::Origin;
use crate::{Error, Result, Settings, Taint};

/// Refuses what upstream's kubelet refuses, too.
///
/// # Errors
/// [`Error::Field`], naming file or flag and field.
pub(crate) fn check(settings: &Settings, origin: Origin<'_>) -> Result<()> {
    let checks = [
        image_garbage,
        image_age,
        ports,
        taints,
        pulls,
        allowlist,
        certificate,
        suites,
        static_pods,
        logs,
    ];
    for check in checks {
        if let Some((path, problem)) = check(settings) {
            return Err(Error::Field {
                origin: origin(path),
                path,
                problem,
            });
        }
    }
    Ok(())
}

/// Cipher suites that can be asked for, by the names of IANA and Go.
const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// A field, and what is wrong with it.
type Wrong = Option<(&'static str, String)>;

fn image_garbage(settings: &Settings) -> Wrong {
    let (high, low) = (
        settings.image_gc_high_threshold_percent,
        settings.image_gc_low_threshold_percent,
    );
    let problem = || format!("{high} is not above imageGCLowThresholdPercent {low}");
    (high <= low).then(|| ("imageGCHighThresholdPercent", problem()))
}

fn image_age(settings: &Settings) -> Wrong {
    let (most, least) = (settings.image_maximum_gc_age, settings.image_minimum_gc_age);
    let problem = || {
        let (most, least) = (format_duration(most), format_duration(least));
        format!("{most} must be greater than imageMinimumGCAge {least}")
    };
    (!most.is_zero() && most <= least).then(|| ("imageMaximumGCAge", problem()))
}

fn ports(settings: &Settings) -> Wrong {
    let port = settings.port;
    let problem = || format!("{port} is taken by port");
    (settings.healthz_port == port).then(|| ("healthzPort", problem()))
}

fn taints(settings: &Settings) -> Wrong {
    let mut problems = settings.register_with_taints.iter().filter_map(taint);
    Some(("registerWithTaints", problems.next()?))
}

/// What is wrong with a taint.
fn taint(taint: &Taint) -> Option<String> {
    if taint.key.is_empty() || taint.effect.is_empty() {
        return Some("a taint needs key and effect".to_owned());
    }
    if taint.time_added.is_some() {
        return Some("timeAdded is not for the kubelet to say".to_owned());
    }
    let wrong = |text: &str, found: Vec<String>| {
        let problem = found.into_iter().next()?;
        Some(format!("{text:?}: {problem}"))
    };
    wrong(&taint.key, names::qualified_name(&taint.key))
        .or_else(|| wrong(&taint.value, names::label_value(&taint.value)))
}

fn static_pods(settings: &Settings) -> Wrong {
    let url = &settings.static_pod_url;
    let known = ["http://", "https://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    let problem = || format!("{url:?} is neither of http nor of https");
    (!url.is_empty() && !known).then(|| ("staticPodURL", problem()))
}

fn logs(settings: &Settings) -> Wrong {
    let (dir, interval) = (&settings.pod_logs_dir, settings.container_log_monitor_interval);
    let clean = |below: &str| below.split('/').all(|part| !["", ".", ".."].contains(&part));
    let normal = dir
        .strip_prefix('/')
        .is_some_and(|below| below.is_empty() || clean(below));
    if !normal || !dir.is_ascii() {
        let problem = format!("{dir:?} is not an absolute, normalized path of ASCII characters");
        return Some(("podLogsDir", problem));
    }
    let problem = || format!("{} is less than 3s", format_duration(interval));
    (interval < Duration::from_secs(3)).then(|| ("containerLogMonitorInterval", problem()))
}

fn certificate(settings: &Settings) -> Wrong {
    let (cert, key) = (&settings.tls_cert_file, &settings.tls_private_key_file);
    let alone = |other: &str| format!("needs {other} beside it");
    match (cert.is_empty(), key.is_empty()) {
        (false, true) => Some(("tlsCertFile", alone("tlsPrivateKeyFile"))),
        (true, false) => Some(("tlsPrivateKeyFile", alone("tlsCertFile"))),
        _ => None,
    }
}

fn suites(settings: &Settings) -> Wrong {
    let mut named = settings.tls_cipher_suites.iter();
    let other = named.find(|name| !SUITES.contains(&name.as_str()))?;
    let problem = format!("{other:?} is not supported; these are: {}", SUITES.join(", "));
    Some(("tlsCipherSuites", problem))
}

fn pulls(settings: &Settings) -> Wrong {
    let most = settings
        .max_parallel_image_pulls
        .filter(|most| settings.serialize_image_pulls && *most > 1)?;
    let problem = format!("{most} can't be larger than 1 unless serializeImagePulls is false");
    Some(("maxParallelImagePulls", problem))
}

fn allowlist(settings: &Settings) -> Wrong {
    let policy = &settings.image_pull_credentials_verification_policy;
    let idle = policy != "NeverVerifyAllowlistedImages"
        && !settings.preloaded_images_verification_allowlist.is_empty();
    let problem =
        "can't be set unless imagePullCredentialsVerificationPolicy is NeverVerifyAllowlistedImages";
    idle.then(|| ("preloadedImagesVerificationAllowlist", problem.to_owned()))
}
