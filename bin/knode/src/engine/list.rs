//! `ps`, `pods`, `images`.

use std::collections::HashMap;

use anyhow::Context;
use knode_cri::{Container, ContainerState, ImageService, PodSandbox, PodSandboxState};
use serde_json::json;

use super::cli::Listing;
use super::table::{Table, ago, bytes, now, short};
use super::{find, json as show};
use crate::output::TableFormat;

const PS: &[&str] = &[
    "CONTAINER",
    "IMAGE",
    "CREATED",
    "STATE",
    "NAME",
    "ATTEMPT",
    "POD-ID",
    "POD",
    "NAMESPACE",
];
const PODS: &[&str] = &[
    "POD-ID",
    "CREATED",
    "STATE",
    "NAME",
    "NAMESPACE",
    "ATTEMPT",
    "RUNTIME",
];
const IMAGES: &[&str] = &["IMAGE", "ID", "SIZE", "PINNED"];

pub async fn ps(listing: &Listing, all: bool, quiet: bool) -> anyhow::Result<()> {
    let engine = find::engine(&listing.place).await?;
    let mut containers = find::containers(&engine).await?;
    containers.retain(|one| all || one.state() == ContainerState::ContainerRunning);
    match listing.output {
        TableFormat::Json => {
            let all: Vec<_> = containers.iter().map(show::container).collect();
            show::print(&json!({"containers": all}));
        }
        TableFormat::Table if quiet => containers.iter().for_each(|one| println!("{}", one.id)),
        TableFormat::Table => {
            let pods = find::pods(&engine).await?;
            print!("{}", ps_table(&containers, &pods, now()));
        }
    }
    Ok(())
}

fn ps_table(containers: &[Container], pods: &[PodSandbox], now: i64) -> String {
    let pods: HashMap<_, _> = pods.iter().map(|pod| (&pod.id, pod)).collect();
    let mut table = Table::new(PS);
    for one in containers {
        let metadata = one.metadata.clone().unwrap_or_default();
        let pod = pods.get(&one.pod_sandbox_id).and_then(|pod| pod.metadata.clone());
        let pod = pod.unwrap_or_default();
        let image = one
            .image
            .as_ref()
            .map_or(one.image_ref.as_str(), |image| image.image.as_str());
        table.row([
            short(&one.id),
            if image.starts_with("sha256:") {
                short(image)
            } else {
                image.to_owned()
            },
            ago(one.created_at, now),
            container_state(one.state()).to_owned(),
            metadata.name,
            metadata.attempt.to_string(),
            short(&one.pod_sandbox_id),
            pod.name,
            pod.namespace,
        ]);
    }
    table.text()
}

/// A state in a word.
pub fn container_state(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "Created",
        ContainerState::ContainerRunning => "Running",
        ContainerState::ContainerExited => "Exited",
        ContainerState::ContainerUnknown => "Unknown",
    }
}

pub async fn pods(listing: &Listing, quiet: bool) -> anyhow::Result<()> {
    let engine = find::engine(&listing.place).await?;
    let pods = find::pods(&engine).await?;
    match listing.output {
        TableFormat::Json => {
            let all: Vec<_> = pods.iter().map(show::pod).collect();
            show::print(&json!({"items": all}));
        }
        TableFormat::Table if quiet => pods.iter().for_each(|one| println!("{}", one.id)),
        TableFormat::Table => print!("{}", pods_table(&pods, now())),
    }
    Ok(())
}

fn pods_table(pods: &[PodSandbox], now: i64) -> String {
    let mut table = Table::new(PODS);
    for pod in pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let ready = pod.state() == PodSandboxState::SandboxReady;
        let handler = match pod.runtime_handler.as_str() {
            "" => "(default)",
            named => named,
        };
        table.row([
            short(&pod.id),
            ago(pod.created_at, now),
            if ready { "Ready" } else { "NotReady" }.to_owned(),
            metadata.name,
            metadata.namespace,
            metadata.attempt.to_string(),
            handler.to_owned(),
        ]);
    }
    table.text()
}

pub async fn images(listing: &Listing, quiet: bool) -> anyhow::Result<()> {
    let engine = find::engine(&listing.place).await?;
    let answer = engine.list_images(Default::default()).await;
    let mut images = answer.context("list the images")?.images;
    images.sort_by(|a, b| (&a.repo_tags, &a.id).cmp(&(&b.repo_tags, &b.id)));
    match listing.output {
        TableFormat::Json => {
            let all: Vec<_> = images.iter().map(show::image).collect();
            show::print(&json!({"images": all}));
        }
        TableFormat::Table if quiet => images.iter().for_each(|one| println!("{}", one.id)),
        TableFormat::Table => print!("{}", images_table(&images)),
    }
    Ok(())
}

/// A line for each tag; what has none is shown by its digest.
fn images_table(images: &[knode_cri::Image]) -> String {
    let mut table = Table::new(IMAGES);
    for image in images {
        let named = match (&image.repo_tags[..], image.repo_digests.first()) {
            ([], Some(digest)) => std::slice::from_ref(digest),
            ([], None) => &[],
            (tags, _) => tags,
        };
        let none = ["<none>".to_owned()];
        for name in if named.is_empty() { &none } else { named } {
            table.row([
                name.clone(),
                short(&image.id),
                bytes(image.size),
                if image.pinned { "yes" } else { "" }.to_owned(),
            ]);
        }
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::{ContainerMetadata, Image, ImageSpec, PodSandboxMetadata};

    #[test]
    fn a_container_is_shown_with_its_pod() {
        let container = Container {
            id: "0123456789abcdef".into(),
            pod_sandbox_id: "fedcba9876543210".into(),
            metadata: Some(ContainerMetadata {
                name: "web".into(),
                attempt: 2,
            }),
            image: Some(ImageSpec {
                image: "nginx:1".into(),
                ..Default::default()
            }),
            state: ContainerState::ContainerRunning as i32,
            ..Default::default()
        };
        let pod = PodSandbox {
            id: "fedcba9876543210".into(),
            metadata: Some(PodSandboxMetadata {
                name: "front".into(),
                namespace: "shop".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = ps_table(&[container], std::slice::from_ref(&pod), 5_000_000_000);
        let line: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let expected = [
            "0123456789abc",
            "nginx:1",
            "5s",
            "Running",
            "web",
            "2",
            "fedcba9876543",
            "front",
            "shop",
        ];
        assert_eq!(line, expected);
        assert!(pods_table(&[pod], 0).contains("(default)"));
    }

    #[test]
    fn an_image_has_a_line_for_each_of_its_tags() {
        let of = |tags: &[&str], digests: &[&str]| Image {
            id: "sha256:00".into(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            ..Default::default()
        };
        let text = images_table(&[of(&["a:1", "a:2"], &["a@x"]), of(&[], &["b@y"]), of(&[], &[])]);
        let names: Vec<_> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names, ["a:1", "a:2", "b@y", "<none>"]);
    }
}
