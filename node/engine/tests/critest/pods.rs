//! Pods: running, stopping, removing, what is kept of their configuration, kernel parameters; the runtime's own state.

use knode_cri::*;

use crate::case::Case;

pub async fn runs_and_is_listed(case: &Case<'_>) {
    let pod = case.pod().await;
    assert_eq!(case.pod_status(&pod).await.state(), PodSandboxState::SandboxReady);
    assert_eq!(case.listed_pods(&pod).await.len(), 1);
}

pub async fn stops(case: &Case<'_>) {
    let pod = case.pod().await;
    case.stop_sandbox(&pod).await.unwrap();
    assert_eq!(
        case.pod_status(&pod).await.state(),
        PodSandboxState::SandboxNotready
    );
}

pub async fn is_removed(case: &Case<'_>) {
    let pod = case.pod().await;
    case.stop_sandbox(&pod).await.unwrap();
    case.remove_sandbox(&pod).await.unwrap();
    assert!(case.listed_pods(&pod).await.is_empty());
}

pub async fn keeps_its_attributes(case: &Case<'_>) {
    let mut config = case.sandbox_config();
    let metadata = config.metadata.clone().unwrap();
    config.labels = [
        ("foo".to_string(), "bar".to_string()),
        ("io.kubernetes.pod.name".into(), metadata.name.clone()),
    ]
    .into();
    config.annotations = [("abc".to_string(), "def".to_string())].into();
    let (labels, annotations) = (config.labels.clone(), config.annotations.clone());
    let pod = case.pod_of(config).await;
    let status = case.pod_status(&pod).await;
    assert_eq!(
        (status.metadata, status.labels, status.annotations),
        (Some(metadata.clone()), labels.clone(), annotations.clone())
    );
    let listed = case.listed_pods(&pod).await;
    assert_eq!(listed.len(), 1);
    let one = listed.into_iter().next().unwrap();
    assert_eq!(
        (one.metadata, one.labels, one.annotations),
        (Some(metadata), labels, annotations)
    );
}

pub async fn sets_kernel_parameters(case: &Case<'_>, name: &str, value: &str) {
    let mut config = case.sandbox_config();
    config.linux.get_or_insert_default().sysctls = [(name.to_string(), value.to_string())].into();
    let pod = case.pod_of(config).await;
    let id = case.stays(&pod, |_| ()).await;
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    assert_eq!(case.prints_inside(&id, &["cat", &file]).await.trim(), value);
}

pub async fn tells_its_version(case: &Case<'_>) {
    let request = VersionRequest {
        version: "0.1.0".into(),
    };
    let version = case.cri().version(request).await.unwrap();
    assert_eq!(version.runtime_api_version, "v1");
    for text in [version.version, version.runtime_name, version.runtime_version] {
        assert!(!text.is_empty());
    }
}

pub async fn tells_its_conditions(case: &Case<'_>) {
    let answer = case.cri().status(StatusRequest::default()).await.unwrap();
    let conditions = answer.status.unwrap().conditions;
    for wanted in ["RuntimeReady", "NetworkReady"] {
        assert!(
            conditions.iter().any(|one| one.r#type == wanted && one.status),
            "{conditions:?}"
        );
    }
}
