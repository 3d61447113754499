//! `inspect` and `events`.

use anyhow::Context;
use futures::StreamExt;
use knode_cri::client::RemoteRuntime;
use knode_cri::{
    ContainerEventType, ContainerStatusRequest, ImageService, ImageSpec, ImageStatusRequest,
    PodSandboxStatusRequest, RuntimeService,
};
use serde_json::{Map, Value, json};

use super::cli::{Listing, Place};
use super::find::{self, Found};
use super::json as show;
use super::table::{short, time};
use crate::output::TableFormat;

/// Prints everything about each of the words: one object, or a list of several.
pub async fn run(place: &Place, words: &[String]) -> anyhow::Result<()> {
    let engine = find::engine(place).await?;
    let mut all = Vec::new();
    for word in words {
        all.push(match find::anything(&engine, word).await? {
            Found::Container(container) => of_container(&engine, container.id).await?,
            Found::Pod(pod) => of_pod(&engine, pod.id).await?,
            Found::Image(image) => of_image(&engine, image.id).await?,
        });
    }
    match &all[..] {
        [one] => show::print(one),
        several => show::print(&json!(several)),
    }
    Ok(())
}

async fn of_container(engine: &RemoteRuntime, container_id: String) -> anyhow::Result<Value> {
    let request = ContainerStatusRequest {
        container_id,
        verbose: true,
    };
    let answer = engine
        .container_status(request)
        .await
        .context("look at the container")?;
    let status = answer.status.as_ref().map(show::container_status);
    Ok(json!({"status": status, "info": info(answer.info)}))
}

async fn of_pod(engine: &RemoteRuntime, pod_sandbox_id: String) -> anyhow::Result<Value> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id,
        verbose: true,
    };
    let answer = engine
        .pod_sandbox_status(request)
        .await
        .context("look at the pod")?;
    let status = answer.status.as_ref().map(show::pod_status);
    Ok(json!({"status": status, "info": info(answer.info)}))
}

async fn of_image(engine: &RemoteRuntime, image: String) -> anyhow::Result<Value> {
    let request = ImageStatusRequest {
        image: Some(ImageSpec {
            image,
            ..Default::default()
        }),
        verbose: true,
    };
    let answer = engine.image_status(request).await.context("look at the image")?;
    Ok(json!({"status": answer.image.as_ref().map(show::image), "info": info(answer.info)}))
}

/// Runtimes say more in JSON of their own, or in plain words.
fn info(info: std::collections::HashMap<String, String>) -> Value {
    let read = |(key, text): (String, String)| {
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (key, value)
    };
    Value::Object(info.into_iter().map(read).collect::<Map<_, _>>())
}

/// Prints events as they come, until interrupted or the engine ends.
pub async fn events(listing: &Listing) -> anyhow::Result<()> {
    let engine = find::engine(&listing.place).await?;
    let mut events = engine.container_events().await.context("subscribe to events")?;
    while let Some(event) = events.next().await {
        let event = event.context("hear events")?;
        match listing.output {
            TableFormat::Json => println!("{}", show::event(&event)),
            TableFormat::Table => {
                let pod = event
                    .pod_sandbox_status
                    .clone()
                    .and_then(|pod| pod.metadata)
                    .unwrap_or_default();
                println!(
                    "{} {} {} {}/{}",
                    time(event.created_at),
                    word(event.container_event_type()),
                    short(&event.container_id),
                    pod.namespace,
                    pod.name
                );
            }
        }
    }
    anyhow::bail!("the engine has ended")
}

fn word(kind: ContainerEventType) -> &'static str {
    match kind {
        ContainerEventType::ContainerCreatedEvent => "created",
        ContainerEventType::ContainerStartedEvent => "started",
        ContainerEventType::ContainerStoppedEvent => "stopped",
        ContainerEventType::ContainerDeletedEvent => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_add_is_json_where_it_is() {
        let given = [("a", "{\"pid\":7}"), ("b", "plain words")];
        let given = given.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        assert_eq!(info(given), json!({"a": {"pid": 7}, "b": "plain words"}));
    }
}
