//! Images as volumes.

use knode_cri::*;

use crate::case::{Case, spec};

/// A container with an image at `/image`.
async fn with_image(case: &Case<'_>, part: &str, readonly: bool) -> (String, ContainerConfig, String) {
    let name = case.image().await;
    let id = case.pull(&name).await;
    let mut config = case.container_of(&id, &["sleep", "1000"]);
    config.mounts = vec![Mount {
        container_path: "/image".into(),
        readonly,
        image: Some(spec(&id)),
        image_sub_path: part.into(),
        ..Default::default()
    }];
    (case.pod().await, config, id)
}

pub async fn tells_its_digest(case: &Case<'_>) {
    let (pod, config, image) = with_image(case, "", true).await;
    let id = case.create(&pod, config).await.unwrap();
    let mounts = case.status(&id).await.mounts;
    let mount = mounts
        .iter()
        .find(|mount| mount.container_path == "/image")
        .unwrap();
    assert_eq!(mount.image.as_ref().unwrap().image_ref, image);
}

pub async fn is_there_and_read_only(case: &Case<'_>) {
    let (pod, config, _) = with_image(case, "", true).await;
    let id = case.run_config(&pod, config).await;
    case.prints_inside(&id, &["ls", "-A", "/image/bin/sh"]).await;
    case.fails_inside(&id, &["touch", "/image/test-write"]).await;
    case.prints_inside(&id, &["/image/bin/ls", "/image"]).await;
}

pub async fn cannot_be_writable(case: &Case<'_>) {
    let (pod, config, _) = with_image(case, "", false).await;
    case.create(&pod, config).await.unwrap_err();
}

pub async fn can_be_a_part(case: &Case<'_>) {
    let (pod, config, _) = with_image(case, "etc", true).await;
    let id = case.run_config(&pod, config).await;
    case.fails_inside(&id, &["ls", "/image/etc/passwd"]).await;
    case.prints_inside(&id, &["ls", "/image/passwd"]).await;
}

pub async fn cannot_be_a_part_that_is_not_there(case: &Case<'_>) {
    let (pod, config, _) = with_image(case, "not-existing", true).await;
    case.create(&pod, config).await.unwrap_err();
}
