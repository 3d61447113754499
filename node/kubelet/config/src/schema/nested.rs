//! Objects inside a `KubeletConfiguration`.

use super::Kind::{Bool, Choice, Duration, Int, Interval, Objects, Quantity, Text, TextMap};
use super::{Field, honoured, no_effect, object, only};

const I32: i64 = i32::MAX as i64;

pub(super) const AUTHENTICATION: &[Field] = &[
    object("x509", &[honoured("clientCAFile", Text, "")]),
    object(
        "webhook",
        &[
            only(
                "enabled",
                Bool,
                "true",
                "tokens are always reviewed by the API server",
            )
            .zero_counts(),
            no_effect(
                "cacheTTL",
                Duration,
                "\"2m0s\"",
                "answers are remembered for two minutes",
            ),
        ],
    ),
    object(
        "anonymous",
        &[only("enabled", Bool, "false", "anonymous requests are never answered").zero_counts()],
    ),
];

pub(super) const AUTHORIZATION: &[Field] = &[
    only(
        "mode",
        Choice(&["AlwaysAllow", "Webhook"]),
        "\"Webhook\"",
        "the API server decides who may use the kubelet",
    ),
    object(
        "webhook",
        &[
            no_effect(
                "cacheAuthorizedTTL",
                Duration,
                "\"5m0s\"",
                "permissions are remembered for five minutes",
            ),
            no_effect(
                "cacheUnauthorizedTTL",
                Duration,
                "\"30s\"",
                "refusals are remembered for 30 seconds",
            ),
        ],
    ),
];

pub(super) const MEMORY_SWAP: &[Field] = &[honoured("swapBehavior", Choice(&["NoSwap", "LimitedSwap"]), "")];

pub(super) const CRASH_LOOP: &[Field] = &[only(
    "maxContainerRestartPeriod",
    Duration,
    "\"5m0s\"",
    "restarts wait five minutes at most",
)
.zero_counts()];

pub(super) const USER_NAMESPACES: &[Field] = &[only(
    "idsPerPod",
    Int(0, u32::MAX as i64),
    "",
    "pods have no user namespaces",
)
.zero_counts()];

pub(super) const TAINT: &[Field] = &[
    honoured("key", Text, ""),
    honoured("value", Text, ""),
    honoured(
        "effect",
        Choice(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        "",
    ),
    honoured("timeAdded", Text, ""),
];

pub(super) const SHUTDOWN_BY_PRIORITY: &[Field] = &[
    honoured("priority", Int(-(1 << 31), I32), ""),
    honoured("shutdownGracePeriodSeconds", Int(0, i64::MAX), ""),
];

pub(super) const MEMORY_RESERVATION: &[Field] = &[
    honoured("numaNode", Int(0, I32), ""),
    honoured("limits", TextMap, ""),
];

pub(super) const TRACING: &[Field] = &[
    honoured("endpoint", Text, "").zero_counts(),
    honoured("samplingRatePerMillion", Int(0, 1_000_000), "").zero_counts(),
];

const LOG: &str = "knode's own --log and $RUST_LOG say what is logged";

const OUTPUT: &[Field] = &[
    no_effect("splitStream", Bool, "", LOG),
    no_effect("infoBufferSize", Quantity, "", LOG),
];

const PATTERN: &[Field] = &[
    honoured("filePattern", Text, ""),
    honoured("verbosity", Int(0, u32::MAX as i64), ""),
];

pub(super) const LOGGING: &[Field] = &[
    only(
        "format",
        Choice(&["text", "json"]),
        "\"text\"",
        "logs are texts in klog's form",
    ),
    no_effect("flushFrequency", Interval, "", "nothing is held back"),
    no_effect("verbosity", Int(0, u32::MAX as i64), "", LOG),
    no_effect("vmodule", Objects(PATTERN), "", LOG),
    object("options", &[object("text", OUTPUT), object("json", OUTPUT)]),
];
