//! Claims, the volumes they are bound to, and their attachments (upstream: `pkg/controller/volume`).
//!
//! Each controller is a pure function of all that there is to what is to be written now; [`keep`] writes it, and
//! asks again when something has changed.

mod attach;
mod bind;
mod ephemeral;
mod plan;
mod protect;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use knode_client::{AnyCache, EventRecorder, Verb, send};
use tokio::sync::mpsc;

use self::plan::{Plan, Step, World, Write};
use crate::error::stale;
use crate::runner::Shared;

/// What could not be written is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Runs all of them, each with the client that `acting_as` gives for its account.
pub(crate) async fn run(shared: &Shared) {
    let cache = AnyCache::start(&shared.client, plan::KINDS);
    cache.wait_synced().await;
    let own = |account: &str| shared.acting_as(account);
    tokio::join!(
        keep(
            own("persistent-volume-binder"),
            "persistentvolume-controller",
            &cache,
            bind::plan
        ),
        keep(own("pvc-protection-controller"), "", &cache, protect::claims),
        keep(own("pv-protection-controller"), "", &cache, protect::volumes),
        keep(
            own("ephemeral-volume-controller"),
            "ephemeral_volume",
            &cache,
            ephemeral::plan
        ),
        keep(
            own("attachdetach-controller"),
            "attachdetach-controller",
            &cache,
            attach::plan
        ),
    );
}

/// Writes what `plan` wants, for ever. Events are signed by `component`, if there are any.
async fn keep(shared: Shared, component: &str, cache: &AnyCache, plan: fn(&World) -> Plan) {
    let recorder = (!component.is_empty()).then(|| shared.recorder(component));
    let mut changes = cache.changes();
    let mut others = others(&shared);
    let mut told = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        while others.try_recv().is_ok() {}
        let wanted = plan(&World::of(cache, &shared));
        if let Some(recorder) = &recorder {
            tell(recorder, &mut told, &wanted);
        }
        let mut failed = false;
        for write in wanted.writes {
            failed |= !carry_out(&shared, write).await;
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = others.recv() => {}
            () = shared.config.clock.sleep(RETRY), if failed => {}
        }
    }
}

/// Tells of changes to pods with claims and to nodes' volumes.
fn others(shared: &Shared) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (mut pods, mut nodes) = (shared.pods.subscribe(), shared.nodes.subscribe());
    tokio::spawn(async move {
        loop {
            let concerns = tokio::select! {
                Some(pod) = pods.recv() => plan::has_volumes(pod.object()),
                Some(node) = nodes.recv() => match &node {
                    knode_client::Delta::Applied { old: Some(old), new } => plan::in_use(old) != plan::in_use(new),
                    _ => true,
                },
                else => return,
            };
            if concerns && sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Reports what was not said before about an object.
fn tell(recorder: &EventRecorder, told: &mut BTreeMap<(String, &'static str), String>, wanted: &Plan) {
    told.retain(|(uid, reason), _| {
        let still = |note: &plan::Note| note.regarding.uid.as_ref() == Some(uid) && note.reason == *reason;
        wanted.notes.iter().any(still)
    });
    for note in &wanted.notes {
        let key = (note.regarding.uid.clone().unwrap_or_default(), note.reason);
        if told.insert(key, note.message.clone()).as_ref() != Some(&note.message) {
            recorder.record(
                note.regarding.clone(),
                note.kind,
                note.reason,
                note.message.clone(),
            );
        }
    }
}

/// Whether it was written, or somebody else was faster.
async fn carry_out(shared: &Shared, write: Write) -> bool {
    let metadata = &write.object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let path = |name: &str| write.kind.path(text("namespace"), name);
    let own = path(text("name"));
    let (verb, path) = match write.step {
        Step::Create => (Verb::Create, path("")),
        Step::Update => (Verb::Update, own),
        Step::Status => (Verb::Update, format!("{own}/status")),
        Step::MergeStatus => (Verb::Merge, format!("{own}/status")),
        Step::Delete => (Verb::Delete, own),
    };
    let options = serde_json::json!({"preconditions": {"uid": metadata["uid"]}});
    let body = match write.step {
        Step::Delete => &options,
        _ => &write.object,
    };
    match send(&shared.client, verb, &path, Some(body)).await {
        Err(error) if !stale(&error) => {
            tracing::warn!(
                path,
                error = knode_client::brief(&error),
                "cannot write about a volume"
            );
            false
        }
        _ => true,
    }
}
