//! Claims for devices: made of templates for pods, and taken from pods that are over
//! (upstream: `pkg/controller/resourceclaim`).

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use knode_client::{AnyCache, AnyKind, EventRecorder, Verb, is_not_found, send};
use tokio::sync::mpsc;

use self::plan::{CLAIMS, Plan, TEMPLATES, World, Write, plan};
use crate::error::stale;
use crate::runner::Shared;

/// What could not be written is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
const KINDS: &[AnyKind] = &[CLAIMS, TEMPLATES];

/// Works for ever.
pub(crate) async fn run(shared: Shared) {
    let cache = AnyCache::start(&shared.client, KINDS);
    cache.wait_synced().await;
    let recorder = shared.recorder("resource_claim");
    let (mut changes, mut pods) = (cache.changes(), pods(&shared));
    let mut told = BTreeSet::new();
    loop {
        changes.mark_unchanged();
        while pods.try_recv().is_ok() {}
        let wanted = plan(&World {
            pods: shared.pods.list(),
            claims: cache.of(&CLAIMS),
            templates: cache.of(&TEMPLATES),
        });
        tell(&recorder, &mut told, &wanted);
        let mut failed = false;
        for write in &wanted.writes {
            failed |= !carry_out(&shared, write).await;
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = pods.recv() => {}
            () = shared.config.clock.sleep(RETRY), if failed => {}
        }
    }
}

/// Tells of changes to pods with claims.
fn pods(shared: &Shared) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut pods = shared.pods.subscribe();
    tokio::spawn(async move {
        while let Some(pod) = pods.recv().await {
            let spec = pod.object().spec.as_ref();
            let concerns = spec.is_some_and(|spec| spec.resource_claims.is_some());
            if concerns && sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Reports what was not said before.
fn tell(recorder: &EventRecorder, told: &mut BTreeSet<(String, String)>, wanted: &Plan) {
    let key = |pod: &Pod, message: &str| (pod.metadata.uid.clone().unwrap_or_default(), message.to_owned());
    let now: BTreeSet<_> = wanted
        .failures
        .iter()
        .map(|(pod, message)| key(pod, message))
        .collect();
    for (pod, message) in &wanted.failures {
        if !told.contains(&key(pod, message)) {
            recorder.warning(reference(pod), "FailedResourceClaimCreation", message.clone());
        }
    }
    *told = now;
}

fn reference(pod: &Pod) -> ObjectReference {
    let metadata = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

/// Whether it was written, or needs not be.
async fn carry_out(shared: &Shared, write: &Write) -> bool {
    for (path, uid) in &write.gone {
        match send(&shared.client, Verb::Get, path, None).await {
            // It is there: the next change of a pod brings it.
            Ok(pod) if pod["metadata"]["uid"].as_str() == Some(uid) => return true,
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => return note(path, &error),
        }
    }
    match send(&shared.client, write.verb, &write.path, Some(&write.body)).await {
        Err(error) if !stale(&error) => note(&write.path, &error),
        _ => true,
    }
}

fn note(path: &str, error: &kube::Error) -> bool {
    tracing::warn!(
        path,
        error = knode_client::brief(error),
        "cannot write about a resource claim"
    );
    false
}
