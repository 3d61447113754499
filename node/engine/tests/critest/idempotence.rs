//! What is done twice, or to what is not there, is no error.

use knode_cri::*;

use crate::case::{Case, spec};

/// No object has this id.
const UNKNOWN: &str = "c0ffee00-0000-4000-8000-000000000000";

pub async fn stopping_an_unknown_pod(case: &Case<'_>) {
    case.stop_sandbox(UNKNOWN).await.unwrap();
}

pub async fn stopping_a_pod_twice(case: &Case<'_>) {
    let pod = case.pod().await;
    for _ in 0..2 {
        case.stop_sandbox(&pod).await.unwrap();
        assert_eq!(
            case.pod_status(&pod).await.state(),
            PodSandboxState::SandboxNotready
        );
    }
    case.remove_sandbox(&pod).await.unwrap();
}

pub async fn removing_an_unknown_pod(case: &Case<'_>) {
    case.remove_sandbox(UNKNOWN).await.unwrap();
}

pub async fn stopping_an_unknown_container(case: &Case<'_>) {
    case.stop(UNKNOWN, 0).await.unwrap();
}

pub async fn stopping_and_removing_a_container_twice(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    for _ in 0..2 {
        case.stop(&id, 0).await.unwrap();
        assert_eq!(case.status(&id).await.state(), ContainerState::ContainerExited);
    }
    case.remove(&id).await.unwrap();
    case.remove(&id).await.unwrap();
}

pub async fn removing_an_unknown_container(case: &Case<'_>) {
    case.remove(UNKNOWN).await.unwrap();
}

pub async fn removing_an_unknown_image(case: &Case<'_>) {
    let id = "0".repeat(64);
    for _ in 0..2 {
        let request = RemoveImageRequest {
            image: Some(spec(&id)),
        };
        case.cri().remove_image(request).await.unwrap();
    }
}
