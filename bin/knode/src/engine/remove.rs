//! `rm` and `prune`.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use knode_cri::client::RemoteRuntime;
use knode_cri::{
    Container, ContainerState, Image, ImageService, ImageSpec, PodSandbox, PodSandboxState,
    RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest, RuntimeService,
    StopPodSandboxRequest,
};

use super::cli::Place;
use super::find::{self, Found};
use super::table::{bytes, short};

/// Removes what the words name; goes on after errors.
pub async fn rm(place: &Place, words: &[String], force: bool) -> anyhow::Result<ExitCode> {
    let engine = find::engine(place).await?;
    let mut code = ExitCode::SUCCESS;
    for word in words {
        match remove(&engine, word, force).await {
            Ok(()) => println!("{word}"),
            Err(error) => {
                eprintln!("{word}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn remove(engine: &RemoteRuntime, word: &str, force: bool) -> anyhow::Result<()> {
    match find::anything(engine, word).await? {
        Found::Container(container) => {
            let runs = container.state() == ContainerState::ContainerRunning;
            ensure!(force || !runs, "the container runs; --force ends it");
            remove_container(engine, container.id).await
        }
        Found::Pod(pod) => {
            let ready = pod.state() == PodSandboxState::SandboxReady;
            ensure!(
                force || !ready,
                "the pod is ready; --force ends it with its containers"
            );
            remove_pod(engine, pod.id).await
        }
        Found::Image(_) => remove_image(engine, word.to_owned()).await,
    }
}

async fn remove_container(engine: &RemoteRuntime, container_id: String) -> anyhow::Result<()> {
    let request = RemoveContainerRequest { container_id };
    engine
        .remove_container(request)
        .await
        .context("remove the container")?;
    Ok(())
}

async fn remove_pod(engine: &RemoteRuntime, pod_sandbox_id: String) -> anyhow::Result<()> {
    let stop = StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
    };
    engine.stop_pod_sandbox(stop).await.context("end the pod")?;
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    engine
        .remove_pod_sandbox(remove)
        .await
        .context("remove the pod")?;
    Ok(())
}

async fn remove_image(engine: &RemoteRuntime, image: String) -> anyhow::Result<()> {
    let request = RemoveImageRequest {
        image: Some(ImageSpec {
            image,
            ..Default::default()
        }),
    };
    engine.remove_image(request).await.context("remove the image")?;
    Ok(())
}

/// Removes images that nothing uses; `all`: ended containers and pods first.
pub async fn prune(place: &Place, all: bool) -> anyhow::Result<()> {
    let engine = find::engine(place).await?;
    if all {
        let (containers, pods) = dead(find::containers(&engine).await?, find::pods(&engine).await?);
        for container in containers {
            println!("container {}", short(&container));
            remove_container(&engine, container).await?;
        }
        for pod in pods {
            println!("pod {}", short(&pod));
            remove_pod(&engine, pod).await?;
        }
    }
    let answer = engine
        .list_images(Default::default())
        .await
        .context("list the images")?;
    let unused = unused(answer.images, &find::containers(&engine).await?);
    let freed = unused.iter().map(|image| image.size).sum();
    for image in unused {
        println!("image {}", image.repo_tags.first().unwrap_or(&image.id));
        remove_image(&engine, image.id).await?;
    }
    println!("{} of images removed", bytes(freed));
    Ok(())
}

/// Ids of the containers that have ended and of the pods that are not ready.
fn dead(containers: Vec<Container>, pods: Vec<PodSandbox>) -> (Vec<String>, Vec<String>) {
    let ended = containers
        .into_iter()
        .filter(|one| one.state() == ContainerState::ContainerExited);
    let down = pods
        .into_iter()
        .filter(|one| one.state() == PodSandboxState::SandboxNotready);
    (
        ended.map(|one| one.id).collect(),
        down.map(|one| one.id).collect(),
    )
}

/// Images that no container has and that are not pinned.
fn unused(images: Vec<Image>, containers: &[Container]) -> Vec<Image> {
    let used: HashSet<&str> = containers
        .iter()
        .flat_map(|one| [one.image_ref.as_str(), one.image_id.as_str()])
        .collect();
    let keep = |image: &Image| image.pinned || used.contains(image.id.as_str());
    images.into_iter().filter(|image| !keep(image)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_or_pinned_stays() {
        let image = |id: &str, pinned| Image {
            id: id.into(),
            pinned,
            ..Default::default()
        };
        let container = Container {
            image_ref: "used".into(),
            ..Default::default()
        };
        let images = vec![image("used", false), image("pinned", true), image("idle", false)];
        let gone: Vec<_> = unused(images, &[container])
            .into_iter()
            .map(|image| image.id)
            .collect();
        assert_eq!(gone, ["idle"]);
    }

    #[test]
    fn created_containers_are_not_dead() {
        let container = |id: &str, state: ContainerState| Container {
            id: id.into(),
            state: state as i32,
            ..Default::default()
        };
        let containers = vec![
            container("new", ContainerState::ContainerCreated),
            container("old", ContainerState::ContainerExited),
        ];
        assert_eq!(dead(containers, Vec::new()).0, ["old"]);
    }
}
