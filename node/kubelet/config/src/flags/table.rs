//! The flags of upstream's kubelet 1.36 (upstream: `cmd/kubelet/app/options`).

use super::Own;

/// What a flag is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// It sets this field.
    Field(&'static str),
    /// It has no field.
    Own(Own),
    /// It asks for the list of flags.
    Help,
    /// It asks for the version.
    Version,
    /// It is another's old name.
    Alias(&'static str),
    /// It is accepted, and a warning says why nothing comes of it.
    NoEffect(&'static str),
    /// As [`Target::NoEffect`], and a switch without a value.
    NoEffectSwitch(&'static str),
    /// A switch of which true means nothing any more, and false can't be followed.
    OnlyTrue(&'static str),
    /// A switch of which false means nothing any more, and true can't be followed.
    OnlyFalse(&'static str),
    /// It speaks of docker.
    Docker,
    /// As [`Target::Docker`], and a switch without a value.
    DockerSwitch,
    /// It has gone, and can't be followed.
    Removed(&'static str),
    /// Upstream has it, this kubelet has not; nothing must be set.
    Unsupported(&'static str),
}

/// The target of a flag by name.
pub(super) fn find(name: &str) -> Option<Target> {
    let all = FIELDS.iter().map(|(flag, path)| (*flag, Target::Field(path)));
    let own = OWN.iter().map(|(flag, own, _)| (*flag, Target::Own(*own)));
    let others = OTHERS.iter().chain(super::old::GONE).copied();
    all.chain(own)
        .chain(others)
        .find(|(flag, _)| *flag == name)
        .map(|(_, target)| target)
}

/// Flags that set a field.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("address", "address"),
    ("allowed-unsafe-sysctls", "allowedUnsafeSysctls"),
    ("anonymous-auth", "authentication.anonymous.enabled"),
    ("authentication-token-webhook", "authentication.webhook.enabled"),
    (
        "authentication-token-webhook-cache-ttl",
        "authentication.webhook.cacheTTL",
    ),
    ("authorization-mode", "authorization.mode"),
    (
        "authorization-webhook-cache-authorized-ttl",
        "authorization.webhook.cacheAuthorizedTTL",
    ),
    (
        "authorization-webhook-cache-unauthorized-ttl",
        "authorization.webhook.cacheUnauthorizedTTL",
    ),
    ("cgroup-driver", "cgroupDriver"),
    ("cgroup-root", "cgroupRoot"),
    ("cgroups-per-qos", "cgroupsPerQOS"),
    ("client-ca-file", "authentication.x509.clientCAFile"),
    ("cluster-dns", "clusterDNS"),
    ("cluster-domain", "clusterDomain"),
    ("container-log-max-files", "containerLogMaxFiles"),
    ("container-log-max-size", "containerLogMaxSize"),
    ("container-runtime-endpoint", "containerRuntimeEndpoint"),
    ("contention-profiling", "enableContentionProfiling"),
    ("cpu-cfs-quota", "cpuCFSQuota"),
    ("cpu-cfs-quota-period", "cpuCFSQuotaPeriod"),
    ("cpu-manager-policy", "cpuManagerPolicy"),
    ("cpu-manager-policy-options", "cpuManagerPolicyOptions"),
    ("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod"),
    ("enable-controller-attach-detach", "enableControllerAttachDetach"),
    ("enable-debugging-handlers", "enableDebuggingHandlers"),
    ("enable-server", "enableServer"),
    ("enforce-node-allocatable", "enforceNodeAllocatable"),
    ("event-burst", "eventBurst"),
    ("event-qps", "eventRecordQPS"),
    ("eviction-hard", "evictionHard"),
    ("eviction-max-pod-grace-period", "evictionMaxPodGracePeriod"),
    ("eviction-minimum-reclaim", "evictionMinimumReclaim"),
    (
        "eviction-pressure-transition-period",
        "evictionPressureTransitionPeriod",
    ),
    ("eviction-soft", "evictionSoft"),
    ("eviction-soft-grace-period", "evictionSoftGracePeriod"),
    ("fail-cgroupv1", "failCgroupV1"),
    ("fail-swap-on", "failSwapOn"),
    ("feature-gates", "featureGates"),
    ("file-check-frequency", "fileCheckFrequency"),
    ("hairpin-mode", "hairpinMode"),
    ("healthz-bind-address", "healthzBindAddress"),
    ("healthz-port", "healthzPort"),
    ("http-check-frequency", "httpCheckFrequency"),
    ("image-gc-high-threshold", "imageGCHighThresholdPercent"),
    ("image-gc-low-threshold", "imageGCLowThresholdPercent"),
    ("image-service-endpoint", "imageServiceEndpoint"),
    ("iptables-drop-bit", "iptablesDropBit"),
    ("iptables-masquerade-bit", "iptablesMasqueradeBit"),
    ("kernel-memcg-notification", "kernelMemcgNotification"),
    ("kube-api-burst", "kubeAPIBurst"),
    ("kube-api-content-type", "contentType"),
    ("kube-api-qps", "kubeAPIQPS"),
    ("kube-reserved", "kubeReserved"),
    ("kube-reserved-cgroup", "kubeReservedCgroup"),
    ("kubelet-cgroups", "kubeletCgroups"),
    (
        "local-storage-capacity-isolation",
        "localStorageCapacityIsolation",
    ),
    ("log-flush-frequency", "logging.flushFrequency"),
    ("logging-format", "logging.format"),
    ("make-iptables-util-chains", "makeIPTablesUtilChains"),
    ("manifest-url", "staticPodURL"),
    ("max-open-files", "maxOpenFiles"),
    ("max-pods", "maxPods"),
    ("memory-manager-policy", "memoryManagerPolicy"),
    ("minimum-image-ttl-duration", "imageMinimumGCAge"),
    ("node-status-max-images", "nodeStatusMaxImages"),
    ("node-status-update-frequency", "nodeStatusUpdateFrequency"),
    ("oom-score-adj", "oomScoreAdj"),
    ("pod-cidr", "podCIDR"),
    ("pod-manifest-path", "staticPodPath"),
    ("pod-max-pids", "podPidsLimit"),
    ("pods-per-core", "podsPerCore"),
    ("port", "port"),
    ("protect-kernel-defaults", "protectKernelDefaults"),
    ("provider-id", "providerID"),
    ("qos-reserved", "qosReserved"),
    ("read-only-port", "readOnlyPort"),
    ("register-node", "registerNode"),
    ("register-with-taints", "registerWithTaints"),
    ("registry-burst", "registryBurst"),
    ("registry-qps", "registryPullQPS"),
    ("reserved-cpus", "reservedSystemCPUs"),
    ("resolv-conf", "resolvConf"),
    ("rotate-certificates", "rotateCertificates"),
    ("rotate-server-certificates", "serverTLSBootstrap"),
    ("runonce", "runOnce"),
    ("runtime-request-timeout", "runtimeRequestTimeout"),
    ("seccomp-default", "seccompDefault"),
    ("serialize-image-pulls", "serializeImagePulls"),
    ("show-hidden-metrics-for-version", "showHiddenMetricsForVersion"),
    (
        "streaming-connection-idle-timeout",
        "streamingConnectionIdleTimeout",
    ),
    ("sync-frequency", "syncFrequency"),
    ("system-cgroups", "systemCgroups"),
    ("system-reserved", "systemReserved"),
    ("system-reserved-cgroup", "systemReservedCgroup"),
    ("tls-cert-file", "tlsCertFile"),
    ("tls-cipher-suites", "tlsCipherSuites"),
    ("tls-curve-preferences", "tlsCurvePreferences"),
    ("tls-min-version", "tlsMinVersion"),
    ("tls-private-key-file", "tlsPrivateKeyFile"),
    ("topology-manager-policy", "topologyManagerPolicy"),
    ("topology-manager-policy-options", "topologyManagerPolicyOptions"),
    ("topology-manager-scope", "topologyManagerScope"),
    ("volume-plugin-dir", "volumePluginDir"),
    ("volume-stats-agg-period", "volumeStatsAggPeriod"),
];

/// Flags without a field, each with what it says.
pub(super) const OWN: &[(&str, Own, &str)] = &[
    (
        "bootstrap-kubeconfig",
        Own::BootstrapKubeconfig,
        "FILE  the credential for the node's first certificate",
    ),
    (
        "cert-dir",
        Own::CertDir,
        "DIR  where certificates are kept (/var/lib/kubelet/pki)",
    ),
    (
        "cni-bin-dir",
        Own::CniBinDir,
        "DIR  where plugins of networks are (/opt/cni/bin)",
    ),
    (
        "cni-conf-dir",
        Own::CniConfDir,
        "DIR  where configurations of networks are (/etc/cni/net.d)",
    ),
    (
        "config",
        Own::Config,
        "FILE  a KubeletConfiguration; flags go before it",
    ),
    (
        "config-dir",
        Own::ConfigDir,
        "DIR  drop-ins *.conf, laid over the file in the order of their names",
    ),
    (
        "hostname-override",
        Own::HostnameOverride,
        "NAME  the node's name (the host's)",
    ),
    (
        "image-credential-provider-bin-dir",
        Own::ProviderBinDir,
        "DIR  where programs that give credentials for images are",
    ),
    (
        "image-credential-provider-config",
        Own::ProviderConfig,
        "FILE  which programs give credentials for which images",
    ),
    (
        "kubeconfig",
        Own::Kubeconfig,
        "FILE  the way to the API server; written by the bootstrap",
    ),
    (
        "node-ip",
        Own::NodeIp,
        "IP[,IP]  the node's addresses, one of each family",
    ),
    (
        "node-labels",
        Own::NodeLabels,
        "KEY=VALUE,...  labels to register with",
    ),
    (
        "root-dir",
        Own::RootDir,
        "DIR  where the pods' files are kept (/var/lib/kubelet)",
    ),
    ("v", Own::Verbosity, "N  how much is logged, from 0 to 10"),
];

const CRASH: &str = "it is gone without a replacement";
const DEAD: &str = "dead containers are kept as --eviction-hard leaves room";
const LOGS: &str = "logs go to standard error, and --v says how much";

/// The other flags that upstream has today.
pub(super) const OTHERS: &[(&str, Target)] = &[
    ("help", Target::Help),
    ("version", Target::Version),
    (
        "cloud-config",
        Target::Unsupported("clouds are their controllers' concern"),
    ),
    (
        "cloud-provider",
        Target::Unsupported("clouds are their controllers' concern"),
    ),
    (
        "exit-on-lock-contention",
        Target::OnlyFalse("the data directory's lock does it"),
    ),
    (
        "experimental-allocatable-ignore-eviction",
        Target::OnlyFalse(CRASH),
    ),
    ("keep-terminated-pod-volumes", Target::OnlyFalse(CRASH)),
    (
        "lock-file",
        Target::Unsupported("the data directory's lock does it"),
    ),
    ("log-json-info-buffer-size", Target::NoEffect(LOGS)),
    ("log-json-split-stream", Target::NoEffectSwitch(LOGS)),
    ("log-text-info-buffer-size", Target::NoEffect(LOGS)),
    ("log-text-split-stream", Target::NoEffectSwitch(LOGS)),
    (
        "manifest-url-header",
        Target::Unsupported("give staticPodURLHeader in a file of --config"),
    ),
    ("maximum-dead-containers", Target::NoEffect(DEAD)),
    ("maximum-dead-containers-per-container", Target::NoEffect(DEAD)),
    ("minimum-container-ttl-duration", Target::NoEffect(DEAD)),
    (
        "register-schedulable",
        Target::OnlyTrue("give --register-with-taints=node.kubernetes.io/unschedulable:NoSchedule"),
    ),
    (
        "reserved-memory",
        Target::Unsupported("nothing is reserved for the system yet"),
    ),
    (
        "runtime-cgroups",
        Target::NoEffect("the service manager places the process"),
    ),
    ("vmodule", Target::NoEffect(LOGS)),
];
