//! Containers, pods and images by what people call them: an id, the beginning of one, or a name.

use anyhow::{Context, bail};
use knode_cri::client::RemoteRuntime;
use knode_cri::{
    Container, Image, ImageService, ImageSpec, ImageStatusRequest, PodSandbox, PodSandboxState,
    RuntimeService,
};

use super::cli::Place;

/// What a word names.
pub enum Found {
    Container(Container),
    Pod(PodSandbox),
    Image(Image),
}

/// Connects to the engine.
pub async fn engine(place: &Place) -> anyhow::Result<RemoteRuntime> {
    let socket = place.socket();
    knode_cri::client::connect(&socket).await.with_context(|| {
        format!(
            "no engine answers on {}; start one with `knode up` or `knode engine`",
            socket.display()
        )
    })
}

/// All containers, the newest first.
pub async fn containers(engine: &RemoteRuntime) -> anyhow::Result<Vec<Container>> {
    let answer = engine.list_containers(Default::default()).await;
    Ok(answer.context("list the containers")?.containers)
}

/// All pods, the newest first.
pub async fn pods(engine: &RemoteRuntime) -> anyhow::Result<Vec<PodSandbox>> {
    let answer = engine.list_pod_sandbox(Default::default()).await;
    Ok(answer.context("list the pods")?.items)
}

/// The container that a word names.
pub async fn container(engine: &RemoteRuntime, word: &str) -> anyhow::Result<Container> {
    let all = containers(engine).await?;
    let one = pick(&all, word, container_names)?;
    one.cloned().with_context(|| format!("no container {word:?}"))
}

/// What a word names: a container, else a pod, else an image.
pub async fn anything(engine: &RemoteRuntime, word: &str) -> anyhow::Result<Found> {
    let all = containers(engine).await?;
    if let Some(container) = pick(&all, word, container_names)? {
        return Ok(Found::Container(container.clone()));
    }
    let all = pods(engine).await?;
    if let Some(pod) = pick(&all, word, pod_names)? {
        return Ok(Found::Pod(pod.clone()));
    }
    let image = ImageSpec {
        image: word.to_owned(),
        ..Default::default()
    };
    let request = ImageStatusRequest {
        image: Some(image),
        verbose: false,
    };
    let answer = engine.image_status(request).await.context("look for an image")?;
    match answer.image {
        Some(image) => Ok(Found::Image(image)),
        None => bail!(
            "the engine has no container, pod or image {word:?}: `knode engine ps --all`, `pods` and `images` list them"
        ),
    }
}

fn container_names(container: &Container) -> (&str, &str, bool) {
    let name = container
        .metadata
        .as_ref()
        .map_or("", |metadata| metadata.name.as_str());
    let runs = container.state() == knode_cri::ContainerState::ContainerRunning;
    (&container.id, name, runs)
}

fn pod_names(pod: &PodSandbox) -> (&str, &str, bool) {
    let name = pod
        .metadata
        .as_ref()
        .map_or("", |metadata| metadata.name.as_str());
    (&pod.id, name, pod.state() == PodSandboxState::SandboxReady)
}

/// By id, then by the beginning of an id, then by name, of those that run first. `names` gives id, name, and whether it
/// runs.
fn pick<'a, T>(
    all: &'a [T],
    word: &str,
    names: impl Fn(&T) -> (&str, &str, bool),
) -> anyhow::Result<Option<&'a T>> {
    let ways: [&dyn Fn(&T) -> bool; 4] = [
        &|one| names(one).0 == word,
        &|one| !word.is_empty() && names(one).0.starts_with(word),
        &|one| names(one).1 == word && names(one).2,
        &|one| names(one).1 == word,
    ];
    for way in ways {
        let mut matching = all.iter().filter(|one| way(one));
        match (matching.next(), matching.next()) {
            (Some(one), None) => return Ok(Some(one)),
            (Some(_), Some(_)) => bail!("{word:?} names more than one: use an id, or more letters of it"),
            (None, _) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    type One = (&'static str, &'static str, bool);

    fn of(all: &[One], word: &str) -> Result<Option<&'static str>, String> {
        let found = pick(all, word, |one| (one.0, one.1, one.2));
        found
            .map(|one| one.map(|one| one.0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn ids_come_before_names_and_what_runs_before_what_does_not() {
        let all = [
            ("abc1", "web", true),
            ("abd2", "web", false),
            ("e3", "abd2", true),
        ];
        assert_eq!(of(&all, "abc1"), Ok(Some("abc1")));
        assert_eq!(of(&all, "abd2"), Ok(Some("abd2")));
        assert_eq!(of(&all, "abd"), Ok(Some("abd2")));
        assert_eq!(of(&all, "web"), Ok(Some("abc1")));
        assert!(of(&all, "ab").unwrap_err().contains("more than one"));
        assert_eq!(of(&all, "none"), Ok(None));
        assert_eq!(of(&all, ""), Ok(None));
    }
}
