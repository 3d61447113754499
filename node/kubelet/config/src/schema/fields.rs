//! The fields of a `KubeletConfiguration`, in upstream's order.

use super::Kind::{
    Bool, BoolMap, Choice, Duration, Int, Ints, Ip, Ips, Objects, Quantity, Share, Text, TextMap, Texts,
    TextsMap,
};
use super::nested::{
    AUTHENTICATION, AUTHORIZATION, CRASH_LOOP, LOGGING, MEMORY_RESERVATION, MEMORY_SWAP,
    SHUTDOWN_BY_PRIORITY, TAINT, TRACING, USER_NAMESPACES,
};
use super::{Field, Support, honoured, no_effect, object, only};

const I32: i64 = i32::MAX as i64;
const PORT: super::Kind = Int(0, 65535);
const COUNT: super::Kind = Int(0, I32);

const WATCHED: &str = "nothing is looked at by the clock: changes are watched";
const UNLIMITED: &str = "requests are few, and not limited by the second";
const NEITHER: &str = "it has none in upstream's kubelet either";
const PINNED: &str = "where containers run is brought up to date as soon as it changes";

pub(crate) const FIELDS: &[Field] = &[
    only("enableServer", Bool, "true", "the kubelet's API is always served").zero_counts(),
    honoured("staticPodPath", Text, ""),
    honoured("podLogsDir", Text, "\"/var/log/pods\""),
    no_effect("syncFrequency", Duration, "", WATCHED),
    no_effect("fileCheckFrequency", Duration, "", WATCHED),
    honoured("httpCheckFrequency", Duration, "\"20s\""),
    honoured("staticPodURL", Text, ""),
    honoured("staticPodURLHeader", TextsMap, ""),
    honoured("address", Ip, "\"0.0.0.0\""),
    honoured("port", PORT, "10250"),
    only(
        "readOnlyPort",
        PORT,
        "",
        "there is no port without authentication; the API's own port answers whoever may ask",
    ),
    honoured("tlsCertFile", Text, ""),
    honoured("tlsPrivateKeyFile", Text, ""),
    honoured("tlsCipherSuites", Texts, ""),
    only(
        "tlsCurvePreferences",
        Ints,
        "",
        "the key exchanges are not chosen",
    ),
    Field::new(
        "tlsMinVersion",
        Choice(&["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]),
        "\"VersionTLS12\"",
        Support::Only(&["\"VersionTLS13\""], "connections are of TLS 1.2 or 1.3"),
    ),
    no_effect(
        "rotateCertificates",
        Bool,
        "true",
        "the node's certificate is always renewed in time",
    )
    .zero_counts(),
    no_effect(
        "serverTLSBootstrap",
        Bool,
        "true",
        "a serving certificate is always requested unless tlsCertFile gives one",
    )
    .zero_counts(),
    object("authentication", AUTHENTICATION),
    object("authorization", AUTHORIZATION),
    no_effect("registryPullQPS", COUNT, "", UNLIMITED).zero_counts(),
    no_effect("registryBurst", COUNT, "", UNLIMITED),
    Field::new(
        "imagePullCredentialsVerificationPolicy",
        Choice(&[
            "NeverVerify",
            "NeverVerifyPreloadedImages",
            "NeverVerifyAllowlistedImages",
            "AlwaysVerify",
        ]),
        "\"NeverVerifyPreloadedImages\"",
        Support::Honoured,
    ),
    honoured("preloadedImagesVerificationAllowlist", Texts, ""),
    no_effect("eventRecordQPS", COUNT, "", UNLIMITED).zero_counts(),
    no_effect("eventBurst", COUNT, "", UNLIMITED),
    only(
        "enableDebuggingHandlers",
        Bool,
        "true",
        "logs, exec, attach and port-forward are always served",
    )
    .zero_counts(),
    no_effect("enableContentionProfiling", Bool, "", "there is no profiling"),
    honoured("healthzPort", PORT, "10248").zero_counts(),
    honoured("healthzBindAddress", Ip, "\"127.0.0.1\""),
    no_effect(
        "oomScoreAdj",
        Int(-1000, 1000),
        "",
        "the service manager gives it (OOMScoreAdjust=)",
    )
    .zero_counts(),
    honoured("clusterDomain", Text, ""),
    honoured("clusterDNS", Ips, ""),
    no_effect("streamingConnectionIdleTimeout", Duration, "", NEITHER),
    no_effect(
        "nodeStatusUpdateFrequency",
        Duration,
        "\"10s\"",
        "the status is looked at every ten seconds",
    ),
    no_effect(
        "nodeStatusReportFrequency",
        Duration,
        "\"5m0s\"",
        "an unchanged status is written every five minutes",
    ),
    no_effect(
        "nodeLeaseDurationSeconds",
        COUNT,
        "40",
        "the lease is for 40 seconds",
    ),
    honoured("imageMinimumGCAge", Duration, "\"2m0s\""),
    honoured("imageMaximumGCAge", Duration, "\"0s\""),
    honoured("imageGCHighThresholdPercent", Int(0, 100), "85").zero_counts(),
    honoured("imageGCLowThresholdPercent", Int(0, 100), "80").zero_counts(),
    no_effect(
        "volumeStatsAggPeriod",
        Duration,
        "",
        "the use of volumes is measured when it is asked for",
    ),
    no_effect(
        "kubeletCgroups",
        Text,
        "",
        "the service manager places the process",
    ),
    only(
        "systemCgroups",
        Text,
        "",
        "the machine's other processes are left where they are",
    ),
    honoured("cgroupRoot", Text, ""),
    only(
        "cgroupsPerQOS",
        Bool,
        "true",
        "each class of pods has its own group",
    )
    .zero_counts(),
    honoured("cgroupDriver", Choice(&["cgroupfs", "systemd"]), "\"cgroupfs\""),
    honoured("cpuManagerPolicy", Choice(&["none", "static"]), "\"none\""),
    only(
        "singleProcessOOMKill",
        Bool,
        "",
        "the kernel's default holds for containers that run out of memory",
    )
    .zero_counts(),
    honoured("cpuManagerPolicyOptions", TextMap, ""),
    no_effect("cpuManagerReconcilePeriod", Duration, "", PINNED),
    no_effect("draManagerReconcilePeriod", Duration, "", PINNED),
    honoured("memoryManagerPolicy", Choice(&["None", "Static"]), "\"None\""),
    honoured(
        "topologyManagerPolicy",
        Choice(&["none", "best-effort", "restricted", "single-numa-node"]),
        "\"none\"",
    ),
    honoured(
        "topologyManagerScope",
        Choice(&["container", "pod"]),
        "\"container\"",
    ),
    honoured("topologyManagerPolicyOptions", TextMap, ""),
    only(
        "qosReserved",
        TextMap,
        "",
        "nothing is reserved for the guaranteed class",
    ),
    no_effect(
        "runtimeRequestTimeout",
        Duration,
        "",
        "the runtime's requests end with what they are for",
    ),
    no_effect(
        "hairpinMode",
        Choice(&["promiscuous-bridge", "hairpin-veth", "none"]),
        "\"hairpin-veth\"",
        "pods reach themselves through their services in every mode",
    ),
    honoured("maxPods", COUNT, "110"),
    no_effect("podCIDR", Text, "", "it is for kubelets without an API server"),
    honoured("podPidsLimit", Int(i64::MIN, i64::MAX), "-1").zero_counts(),
    honoured("resolvConf", Text, "\"/etc/resolv.conf\"").zero_counts(),
    only("runOnce", Bool, "", "upstream's kubelet has given it up"),
    honoured("cpuCFSQuota", Bool, "true").zero_counts(),
    honoured("cpuCFSQuotaPeriod", Duration, "\"100ms\"").zero_counts(),
    honoured("nodeStatusMaxImages", Int(-1, I32), "50").zero_counts(),
    no_effect(
        "maxOpenFiles",
        Int(0, i64::MAX),
        "",
        "the service manager sets it (LimitNOFILE=)",
    ),
    no_effect("contentType", Text, "", "requests are JSON"),
    no_effect("kubeAPIQPS", COUNT, "", UNLIMITED).zero_counts(),
    no_effect("kubeAPIBurst", COUNT, "", UNLIMITED),
    honoured("serializeImagePulls", Bool, "").zero_counts(),
    honoured("maxParallelImagePulls", Int(1, I32), "").zero_counts(),
    honoured("evictionHard", TextMap, ""),
    honoured("evictionSoft", TextMap, ""),
    honoured("evictionSoftGracePeriod", TextMap, ""),
    honoured("evictionPressureTransitionPeriod", Duration, "\"5m0s\""),
    honoured("evictionMaxPodGracePeriod", COUNT, "0"),
    honoured("evictionMinimumReclaim", TextMap, ""),
    honoured("mergeDefaultEvictionSettings", Bool, "false").zero_counts(),
    honoured("podsPerCore", COUNT, ""),
    only(
        "enableControllerAttachDetach",
        Bool,
        "true",
        "the control plane attaches volumes",
    )
    .zero_counts(),
    only(
        "protectKernelDefaults",
        Bool,
        "",
        "the kernel's settings are not compared; `knode doctor` does it",
    ),
    no_effect(
        "makeIPTablesUtilChains",
        Bool,
        "",
        "no chains of iptables are made",
    )
    .zero_counts(),
    no_effect("iptablesMasqueradeBit", Int(0, 31), "", NEITHER).zero_counts(),
    no_effect("iptablesDropBit", Int(0, 31), "", NEITHER).zero_counts(),
    no_effect("featureGates", BoolMap, "", "this kubelet has no feature gates"),
    honoured("failSwapOn", Bool, "true").zero_counts(),
    object("memorySwap", MEMORY_SWAP),
    honoured("containerLogMaxSize", Quantity, "\"10Mi\""),
    honoured("containerLogMaxFiles", Int(2, I32), "5").zero_counts(),
    no_effect(
        "containerLogMaxWorkers",
        Int(1, I32),
        "",
        "logs are rotated by one task",
    )
    .zero_counts(),
    honoured("containerLogMonitorInterval", Duration, "\"10s\"").zero_counts(),
    no_effect(
        "configMapAndSecretChangeDetectionStrategy",
        Choice(&["Get", "Cache", "Watch"]),
        "\"Watch\"",
        WATCHED,
    ),
    honoured("systemReserved", TextMap, ""),
    honoured("kubeReserved", TextMap, ""),
    honoured("reservedSystemCPUs", Text, ""),
    no_effect("showHiddenMetricsForVersion", Text, "", "no metrics are hidden"),
    honoured("systemReservedCgroup", Text, ""),
    honoured("kubeReservedCgroup", Text, ""),
    honoured("enforceNodeAllocatable", Texts, "[\"pods\"]"),
    honoured("allowedUnsafeSysctls", Texts, ""),
    no_effect("volumePluginDir", Text, "", "there are no FlexVolume plugins"),
    only("providerID", Text, "", "the cloud's controller writes it"),
    no_effect(
        "kernelMemcgNotification",
        Bool,
        "",
        "free memory is looked at every ten seconds",
    ),
    object("logging", LOGGING),
    honoured("enableSystemLogHandler", Bool, "true").zero_counts(),
    only("enableSystemLogQuery", Bool, "false", "/logs/ takes no queries").zero_counts(),
    honoured("shutdownGracePeriod", Duration, "\"0s\""),
    honoured("shutdownGracePeriodCriticalPods", Duration, "\"0s\""),
    honoured(
        "shutdownGracePeriodByPodPriority",
        Objects(SHUTDOWN_BY_PRIORITY),
        "",
    ),
    object("crashLoopBackOff", CRASH_LOOP),
    honoured("reservedMemory", Objects(MEMORY_RESERVATION), ""),
    no_effect("enableProfilingHandler", Bool, "false", "there is no profiling").zero_counts(),
    no_effect(
        "enableDebugFlagsHandler",
        Bool,
        "false",
        "levels of logs are not changed by the kubelet's API",
    )
    .zero_counts(),
    honoured("seccompDefault", Bool, "false").zero_counts(),
    no_effect(
        "memoryThrottlingFactor",
        Share,
        "",
        "it is of the feature gate MemoryQoS",
    )
    .zero_counts(),
    only(
        "memoryReservationPolicy",
        Choice(&["None", "TieredReservation"]),
        "\"None\"",
        "no memory is locked",
    ),
    honoured("registerWithTaints", Objects(TAINT), ""),
    only("registerNode", Bool, "true", "the node is always registered").zero_counts(),
    only("tracing", super::Kind::Object(TRACING), "", "no traces are sent"),
    only(
        "localStorageCapacityIsolation",
        Bool,
        "true",
        "limits of local storage always hold",
    )
    .zero_counts(),
    honoured("containerRuntimeEndpoint", Text, ""),
    honoured("imageServiceEndpoint", Text, ""),
    honoured("failCgroupV1", Bool, "false").zero_counts(),
    object("userNamespaces", USER_NAMESPACES),
    no_effect("podHousekeepingPeriod", Duration, "", WATCHED).zero_counts(),
];
