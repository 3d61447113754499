//! Images: pulling by every kind of reference, what is told of them, removing, and that their id is the same everywhere.

use std::time::Duration;

use knode_cri::image_service_client::ImageServiceClient;
use knode_cri::*;

use crate::case::{Case, spec};

/// Pulls an image, looks at it, and removes it again.
async fn comes_and_goes(case: &Case<'_>, name: &str, look: impl FnOnce(&Image)) {
    gone(case, name).await;
    case.pull(name).await;
    let image = case.image_status(name).await.expect("the image that was pulled");
    assert!(!image.id.is_empty() && image.size > 0, "{image:?}");
    look(&image);
    case.remove_image(&image.id).await;
    assert_eq!(case.image_status(name).await, None);
}

async fn gone(case: &Case<'_>, name: &str) {
    if let Some(image) = case.image_status(name).await {
        case.remove_image(&image.id).await;
    }
}

pub async fn by_tag(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    comes_and_goes(case, &name, |image| {
        assert_eq!(image.repo_tags, std::slice::from_ref(&name))
    })
    .await;
}

pub async fn within_a_time(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    gone(case, &name).await;
    let channel = knode_cri::client::channel(&case.socket()).await.unwrap();
    let mut request = tonic::Request::new(PullImageRequest {
        image: Some(spec(&name)),
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(1));
    let error = ImageServiceClient::new(channel)
        .pull_image(request)
        .await
        .unwrap_err();
    // The client's own clock and the server's race; both say that the time is up.
    let codes = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled];
    assert!(codes.contains(&error.code()), "{error:?}");
}

pub async fn without_a_tag(case: &Case<'_>) {
    let name = case.machine.name("test-image-latest");
    let tagged = format!("{name}:latest");
    comes_and_goes(case, &name, |image| assert_eq!(image.repo_tags, [tagged])).await;
}

pub async fn by_digest(case: &Case<'_>) {
    let digest = crate::machine::labelled("digest").manifest.digest;
    let name = format!("{}@{digest}", case.machine.name("test-image-digest"));
    comes_and_goes(case, &name, |image| {
        assert!(image.repo_tags.is_empty(), "{image:?}");
        assert_eq!(image.repo_digests, std::slice::from_ref(&name));
    })
    .await;
}

pub async fn is_found_by_all_its_names(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:all");
    gone(case, &name).await;
    case.pull(&name).await;
    let image = case.image_status(&name).await.unwrap();
    let names = [&image.id]
        .into_iter()
        .chain(&image.repo_tags)
        .chain(&image.repo_digests);
    for name in names {
        assert_eq!(case.image_status(name).await.as_ref(), Some(&image), "{name}");
    }
    gone(case, &name).await;
    assert_eq!(case.image_status(&name).await, None);
}

pub async fn tells_its_user(case: &Case<'_>) {
    for (name, uid, username) in [
        ("uid", 1002, ""),
        ("username", 0, "www-data"),
        ("uid-group", 1003, ""),
        ("username-group", 0, "www-data"),
    ] {
        let name = case.machine.name(&format!("test-image-user-{name}"));
        case.pull(&name).await;
        let image = case.image_status(&name).await.unwrap();
        let found = (image.uid.map_or(0, |uid| uid.value), image.username.as_str());
        assert_eq!(found, (uid, username), "{name}");
        gone(case, &name).await;
    }
}

pub async fn three_are_listed(case: &Case<'_>) {
    let names: Vec<String> = (1..=3)
        .map(|number| case.machine.name(&format!("test-image-{number}:latest")))
        .collect();
    for name in &names {
        gone(case, name).await;
        let id = case.pull(name).await;
        let images = case.images().await;
        let image = images.iter().find(|image| image.id == id).unwrap();
        assert_eq!(image.repo_tags, std::slice::from_ref(name));
    }
    for name in &names {
        gone(case, name).await;
    }
}

/// Three tags of one image; gives their names and its id.
async fn tagged_thrice(case: &Case<'_>) -> (Vec<String>, String) {
    let names: Vec<String> = (1..=3)
        .map(|number| case.machine.name(&format!("test-image-tags:{number}")))
        .collect();
    gone(case, &names[0]).await;
    let mut ids = Vec::new();
    for name in &names {
        ids.push(case.pull(name).await);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    (names, ids.remove(0))
}

pub async fn three_tags_are_one_image(case: &Case<'_>) {
    let (names, id) = tagged_thrice(case).await;
    let images = case.images().await;
    let mut tags = images.into_iter().find(|image| image.id == id).unwrap().repo_tags;
    tags.sort();
    assert_eq!(tags, names);
    gone(case, &names[0]).await;
}

pub async fn goes_with_all_its_tags(case: &Case<'_>) {
    let (names, id) = tagged_thrice(case).await;
    case.remove_image(&names[0]).await;
    for name in names.iter().chain([&id]) {
        assert_eq!(case.image_status(name).await, None, "{name}");
    }
}

pub async fn goes_with_its_tags_of_other_registries(case: &Case<'_>) {
    let names = [
        case.machine.name("pause:3.9"),
        case.machine.name_elsewhere("pause:3.9"),
    ];
    gone(case, &names[0]).await;
    let id = case.pull(&names[0]).await;
    assert_eq!(case.pull(&names[1]).await, id);
    let tags = case.image_status(&id).await.unwrap().repo_tags;
    assert!(names.iter().all(|name| tags.contains(name)), "{tags:?}");
    case.remove_image(&names[0]).await;
    for name in names.iter().chain([&id]) {
        assert_eq!(case.image_status(name).await, None, "{name}");
    }
}

async fn is_listed(case: &Case<'_>, name: &String) -> bool {
    case.images()
        .await
        .iter()
        .any(|image| image.repo_tags.contains(name))
}

pub async fn is_gone_at_once(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    case.pull(&name).await;
    gone(case, &name).await;
    assert!(!is_listed(case, &name).await);
    assert_eq!(case.image_status(&name).await, None);
}

pub async fn is_there_at_once(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    gone(case, &name).await;
    case.pull(&name).await;
    assert!(is_listed(case, &name).await);
    assert!(case.image_status(&name).await.is_some());
    gone(case, &name).await;
}

pub async fn can_be_removed_by_many_at_once(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    let id = case.pull(&name).await;
    let removals = (0..5).map(|_| async {
        case.remove_image(&id).await;
        case.image_status(&id).await
    });
    for found in futures::future::join_all(removals).await {
        assert_eq!(found, None);
    }
}

/// Makes a container of an image by its id; gives the ids of the image that status and list tell.
async fn ids_of_a_container(case: &Case<'_>, id: &str, name: &str) -> [String; 2] {
    let pod = case.pod().await;
    let mut config = case.container_of(id, &["sleep", "1000"]);
    config.image.as_mut().unwrap().user_specified_image = name.into();
    let container = case.run_config(&pod, config).await;
    let status = case.status(&container).await;
    // What a pod's status shows as `imageID`: the digest under which the image was asked for.
    let repository = name.strip_suffix(":test").or(name.strip_suffix(":3.9")).unwrap();
    let digest = format!("{repository}@sha256:");
    assert!(status.image_ref.starts_with(&digest), "{}", status.image_ref);
    assert_eq!(case.image_status(&status.image_ref).await.unwrap().id, id);
    let listed = case.listed(&container).await;
    [status.image_id, listed[0].image_id.clone()]
}

pub async fn has_one_id_everywhere(case: &Case<'_>) {
    let name = case.machine.name("test-image-tag:test");
    let id = case.pull(&name).await;
    assert_eq!(case.image_status(&name).await.unwrap().id, id);
    assert_eq!(ids_of_a_container(case, &id, &name).await, [id.clone(), id]);
    case.remove_pods().await;
    gone(case, &name).await;
}

pub async fn has_one_id_from_all_registries(case: &Case<'_>) {
    let names = [
        case.machine.name("pause:3.9"),
        case.machine.name_elsewhere("pause:3.9"),
    ];
    let id = case.pull(&names[0]).await;
    assert_eq!(case.pull(&names[1]).await, id);
    for name in &names {
        assert_eq!(case.image_status(name).await.unwrap().id, id);
    }
    assert_eq!(ids_of_a_container(case, &id, &names[1]).await, [id.clone(), id]);
    case.remove_pods().await;
    gone(case, &names[0]).await;
}
