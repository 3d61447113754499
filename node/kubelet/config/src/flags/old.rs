//! Flags that upstream's kubelet has had since 1.6 and has no more.

use super::table::Target::{
    self, Alias, Docker, DockerSwitch, NoEffect, NoEffectSwitch, OnlyFalse, OnlyTrue, Removed,
};

const CADVISOR: &str =
    "there is no cAdvisor, nor a port of it: the figures are in /metrics and /stats/summary";
const SOURCES: &str =
    "admission decides who may use the host's namespaces (label pod-security.kubernetes.io/enforce)";
const NETWORK: &str = "the network is that of /etc/cni/net.d, else the built-in one";
const LOGS: &str = "logs go to standard error, where the service manager takes them";
const KUBECONFIG: &str = "--kubeconfig names the API server and the credential";
const DYNAMIC: &str = "use --config and --config-dir";
const EVICTION: &str = "use --eviction-hard=nodefs.available<...";

pub(super) const GONE: &[(&str, Target)] = &[
    ("add-dir-header", NoEffectSwitch(LOGS)),
    (
        "allow-privileged",
        OnlyTrue("admission decides who may be privileged (label pod-security.kubernetes.io/enforce)"),
    ),
    ("alsologtostderr", NoEffectSwitch(LOGS)),
    ("api-servers", Removed(KUBECONFIG)),
    ("application-metrics-count-limit", NoEffect(CADVISOR)),
    ("auth-path", Removed(KUBECONFIG)),
    ("azure-container-registry-config", Removed("use imagePullSecrets")),
    ("babysit-daemons", NoEffectSwitch("the service manager does it")),
    ("boot-id-file", NoEffect(CADVISOR)),
    ("cadvisor-port", NoEffect(CADVISOR)),
    ("chaos-chance", Removed("it was for tests of the kubelet itself")),
    (
        "cni-cache-dir",
        NoEffect("records of attachments lie in the data directory"),
    ),
    ("configure-cbr0", OnlyFalse(NETWORK)),
    ("container-hints", NoEffect(CADVISOR)),
    ("container-runtime", Docker),
    ("containerd", NoEffect("give --container-runtime-endpoint")),
    (
        "containerd-namespace",
        NoEffect("give --container-runtime-endpoint"),
    ),
    ("docker", Docker),
    ("docker-endpoint", Docker),
    ("docker-env-metadata-whitelist", Docker),
    ("docker-exec-handler", Docker),
    ("docker-only", DockerSwitch),
    ("docker-root", Docker),
    ("docker-tls", DockerSwitch),
    ("docker-tls-ca", Docker),
    ("docker-tls-cert", Docker),
    ("docker-tls-key", Docker),
    ("dynamic-config-dir", Removed(DYNAMIC)),
    ("enable-cadvisor-json-endpoints", OnlyFalse(CADVISOR)),
    (
        "enable-custom-metrics",
        OnlyFalse("metrics of programs are asked of the programs"),
    ),
    ("enable-load-reader", NoEffectSwitch(CADVISOR)),
    ("event-storage-age-limit", NoEffect(CADVISOR)),
    ("event-storage-event-limit", NoEffect(CADVISOR)),
    ("exec-handler", Docker),
    ("experimental-bootstrap-kubeconfig", Alias("bootstrap-kubeconfig")),
    ("experimental-cgroups-per-qos", Alias("cgroups-per-qos")),
    (
        "experimental-check-node-capabilities-before-mount",
        OnlyFalse("it has gone"),
    ),
    ("experimental-cri", OnlyTrue("there is nothing but CRI")),
    ("experimental-dockershim", DockerSwitch),
    ("experimental-dockershim-root-directory", Docker),
    ("experimental-fail-swap-on", Alias("fail-swap-on")),
    (
        "experimental-kernel-memcg-notification",
        Alias("kernel-memcg-notification"),
    ),
    (
        "experimental-mounter-path",
        Removed("the host's mount helpers are used"),
    ),
    ("experimental-nvidia-gpus", Removed("use a device plugin")),
    ("experimental-qos-reserved", Alias("qos-reserved")),
    ("global-housekeeping-interval", NoEffect(CADVISOR)),
    ("google-json-key", Removed("use imagePullSecrets")),
    ("host-ipc-sources", Removed(SOURCES)),
    ("host-network-sources", Removed(SOURCES)),
    ("host-pid-sources", Removed(SOURCES)),
    ("housekeeping-interval", NoEffect(CADVISOR)),
    ("image-pull-progress-deadline", Docker),
    ("init-config-dir", Removed(DYNAMIC)),
    ("ip-masq-agent", NoEffect(NETWORK)),
    ("log-backtrace-at", NoEffect(LOGS)),
    ("log-cadvisor-usage", NoEffectSwitch(CADVISOR)),
    ("log-dir", NoEffect(LOGS)),
    ("log-file", NoEffect(LOGS)),
    ("log-file-max-size", NoEffect(LOGS)),
    ("logtostderr", OnlyTrue(LOGS)),
    ("low-diskspace-threshold-mb", Removed(EVICTION)),
    ("machine-id-file", NoEffect(CADVISOR)),
    (
        "master-service-namespace",
        NoEffect("the service kubernetes is in the namespace default"),
    ),
    ("network-plugin", NoEffect(NETWORK)),
    ("network-plugin-dir", Alias("cni-bin-dir")),
    ("network-plugin-mtu", NoEffect(NETWORK)),
    (
        "node-status-update-interval",
        Alias("node-status-update-frequency"),
    ),
    (
        "non-masquerade-cidr",
        NoEffect("the overlay masquerades what leaves the pod network"),
    ),
    ("one-output", NoEffectSwitch(LOGS)),
    (
        "outofdisk-transition-frequency",
        Alias("eviction-pressure-transition-period"),
    ),
    (
        "pod-infra-container-image",
        NoEffect("the pods' sandboxes need no image"),
    ),
    (
        "really-crash-for-testing",
        OnlyFalse("it was for tests of the kubelet itself"),
    ),
    ("reconcile-cidr", NoEffectSwitch(NETWORK)),
    (
        "redirect-container-streaming",
        OnlyFalse("streams go through the kubelet"),
    ),
    ("require-kubeconfig", OnlyTrue(KUBECONFIG)),
    ("resource-container", Alias("kubelet-cgroups")),
    ("rkt-api-endpoint", Removed("give --container-runtime-endpoint")),
    ("rkt-path", Removed("give --container-runtime-endpoint")),
    ("rkt-stage1-image", Removed("give --container-runtime-endpoint")),
    (
        "seccomp-profile-root",
        NoEffect("profiles lie in seccomp below --root-dir"),
    ),
    ("skip-headers", NoEffectSwitch(LOGS)),
    ("skip-log-headers", NoEffectSwitch(LOGS)),
    ("stderrthreshold", NoEffect(LOGS)),
    ("storage-driver-buffer-duration", NoEffect(CADVISOR)),
    ("storage-driver-db", NoEffect(CADVISOR)),
    ("storage-driver-host", NoEffect(CADVISOR)),
    ("storage-driver-password", NoEffect(CADVISOR)),
    ("storage-driver-secure", NoEffectSwitch(CADVISOR)),
    ("storage-driver-table", NoEffect(CADVISOR)),
    ("storage-driver-user", NoEffect(CADVISOR)),
    ("system-container", Alias("system-cgroups")),
    ("tls-ca-file", Alias("client-ca-file")),
];
