//! Which container of a pod a request is about, and where the pod runs.

use knode_api::status::Status;
use serde_json::Value;

use crate::core::Core;
use crate::http::Failure;
use crate::registry::{Ask, view};

/// The pod that a request names.
pub(super) async fn pod(core: &Core, ask: &Ask) -> Result<Value, Failure> {
    let object = core
        .current(ask.kind, &ask.key())
        .await?
        .ok_or_else(|| ask.not_found())?;
    Ok(view(ask.kind, &object))
}

/// The node that the pod is placed on; nothing if it isn't placed.
pub(super) fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// The container that the request names, or the only one.
pub(super) fn container(ask: &Ask, pod: &Value) -> Result<String, Failure> {
    let names = |field: &str| -> Vec<&str> {
        pod["spec"][field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    let wanted = ask.query.text("container");
    let pod_name = &ask.info.name;
    let bad = |why: String| -> Failure { Status::bad_request(why).into() };
    match (wanted, main.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let mut why = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(bad(why))
        }
        (wanted, _)
            if main
                .iter()
                .chain(&init)
                .chain(&ephemeral)
                .any(|name| *name == wanted) =>
        {
            Ok(wanted.to_owned())
        }
        (wanted, _) => Err(bad(format!("container {wanted} is not valid for pod {pod_name}"))),
    }
}
