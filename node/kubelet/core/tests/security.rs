//! What pods ask of the kernel's security modules, as the runtime is told of it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, phase, pod};
use k8s_openapi::api::core::v1::Pod;
use knode_cri::security_profile::ProfileType;
use serde_json::json;

fn asking() -> Pod {
    let container = json!({
        "volumeMounts": [
            {"name": "own", "mountPath": "/own"},
            {"name": "nodes", "mountPath": "/nodes"},
            {"name": "fields", "mountPath": "/fields"},
        ],
        "securityContext": {"seLinuxOptions": {"level": "s0:c1,c2"}},
    });
    let spec = json!({
        "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "web"}},
        "volumes": [
            {"name": "own", "emptyDir": {}},
            {"name": "nodes", "hostPath": {"path": "/usr"}},
            {"name": "fields", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
    });
    pod("asking", container, spec)
}

#[tokio::test(start_paused = true)]
async fn labels_and_profiles_come_to_the_runtime() {
    let mut bench = Bench::start("security").await;
    (bench.modules.apparmor, bench.modules.selinux) = (true, true);
    bench.start_kubelet().await;
    bench.api.put(asking());
    bench.until_ready("asking").await;
    let config = bench.runtime.creates()[0].config.clone().unwrap();
    let relabelled = |path: &str| {
        let mut mounts = config.mounts.iter();
        let mount = mounts.find(|mount| mount.container_path == path);
        mount.unwrap_or_else(|| panic!("no {path}")).selinux_relabel
    };
    assert!(relabelled("/own") && relabelled("/fields") && relabelled("/etc/hosts"));
    assert!(relabelled("/dev/termination-log"));
    assert!(
        !relabelled("/nodes"),
        "the node's own directories keep their labels"
    );
    let context = config.linux.unwrap().security_context.unwrap();
    assert_eq!(context.selinux_options.unwrap().level, "s0:c1,c2");
    let profile = context.apparmor.unwrap();
    assert_eq!(
        (profile.profile_type(), profile.localhost_ref.as_str()),
        (ProfileType::Localhost, "web")
    );
}

#[tokio::test(start_paused = true)]
async fn without_apparmor_a_pod_that_asks_for_it_is_rejected() {
    let bench = Bench::start("unconfined").await;
    bench.api.put(asking());
    let failed = bench
        .until("asking", "rejected", |pod| phase(pod) == "Failed")
        .await;
    let status = failed.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("AppArmor"));
    assert_eq!(
        status.message.as_deref().unwrap(),
        "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
    );
    assert!(bench.runtime.runs().is_empty());
    let mut plain = asking();
    plain.metadata.name = Some("plain".into());
    plain.metadata.uid = Some("plain".into());
    plain.spec.as_mut().unwrap().security_context = None;
    bench.api.put(plain);
    bench.until_ready("plain").await;
    let config = bench.runtime.creates()[0].config.clone().unwrap();
    assert!(config.mounts.iter().all(|mount| !mount.selinux_relabel));
}
