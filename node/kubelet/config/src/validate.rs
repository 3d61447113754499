//! Values that must be within limits or fit one another (upstream: `pkg/kubelet/apis/config/validation/validation.go`).

use knode_api::time::format_duration;

use crate::defaults::Origin;
use crate::{Error, Result, Settings};

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
        certificate,
        suites,
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
    let wrong = settings
        .register_with_taints
        .iter()
        .any(|taint| taint.key.is_empty() || taint.effect.is_empty());
    wrong.then(|| ("registerWithTaints", "a taint needs key and effect".to_owned()))
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
