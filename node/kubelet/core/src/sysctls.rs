//! Which kernel parameters a pod may set (upstream: `pkg/kubelet/sysctl`). Pure.

use k8s_openapi::api::core::v1::Pod;

use crate::model::Rejection;
use crate::pod::PodExt;

/// Those that every pod may set: they are the pod's own and harm nobody else.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why the pod must not set what it asks for; `allowed` are names, or beginnings of names with a star.
pub(crate) fn forbidden(pod: &Pod, allowed: &[String]) -> Option<Rejection> {
    let spec = pod.spec()?;
    let asked = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let host = |shared: Option<bool>| shared == Some(true);
    let why = asked.iter().find_map(|one| {
        let name = one.name.replace('/', ".");
        let allows = |pattern: &String| match pattern.strip_suffix('*') {
            Some(front) => name.starts_with(front),
            None => *pattern == name,
        };
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        match () {
            () if !SAFE.contains(&name.as_str()) && !allowed.iter().any(allows) => Some("not allowlisted"),
            () if host(spec.host_network) && name.starts_with("net.") => {
                Some("not allowed with host net enabled")
            }
            () if host(spec.host_ipc) && ipc.iter().any(|front| name.starts_with(front)) => {
                Some("not allowed with host ipc enabled")
            }
            () => None,
        }
        .map(|why| format!("forbidden sysctl: {:?} {why}", one.name))
    })?;
    Some(Rejection {
        reason: "SysctlForbidden".to_owned(),
        message: why,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_safe_ones_and_those_that_are_allowed() {
        let verdict = |name: &str, host: bool, allowed: &[&str]| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "hostNetwork": host, "hostIPC": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}});
            let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
            forbidden(&serde_json::from_value(pod).unwrap(), &allowed)
                .map(|one| format!("{}: {}", one.reason, one.message))
        };
        assert_eq!(verdict("net.ipv4.tcp_syncookies", false, &[]), None);
        let refused = "SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted";
        assert_eq!(verdict("kernel.msgmax", false, &[]).as_deref(), Some(refused));
        assert_eq!(verdict("kernel.msgmax", false, &["kernel.msg*"]), None);
        assert_eq!(verdict("kernel/msgmax", false, &["kernel.msgmax"]), None);
        assert!(
            verdict("net.ipv4.tcp_syncookies", true, &[])
                .unwrap()
                .ends_with("host net enabled")
        );
        assert!(
            verdict("kernel.msgmax", true, &["kernel.msg*"])
                .unwrap()
                .ends_with("host ipc enabled")
        );
    }
}
