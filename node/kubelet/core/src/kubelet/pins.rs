//! Tells running containers of the processors that are everybody's whenever these change
//! (upstream: `cpumanager.reconcileState`, which looks every ten seconds).

use std::sync::Arc;
use std::time::Duration;

use knode_cri as cri;

use crate::model::ContainerState;
use crate::pod::PodExt;
use crate::worker::{Context, Told};

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    if !context.pins_cpus() {
        return;
    }
    let mut again = false;
    loop {
        match again {
            true => {
                tokio::select! {
                    () = context.pins.woken() => {}
                    () = context.config.clock.sleep(RETRY) => {}
                }
            }
            false => context.pins.woken().await,
        }
        again = !reconcile(&context).await;
    }
}

/// Tells everybody who runs elsewhere than it should; false if some could not be told.
async fn reconcile(context: &Context) -> bool {
    look(context);
    let told: Vec<(String, Told)> = {
        let told = context.pins.told();
        told.iter().map(|(id, one)| (id.clone(), one.clone())).collect()
    };
    let mut done = true;
    for (id, one) in told {
        let cpus = context.cpus(&one.uid, &one.container);
        if cpus == one.cpus || cpus.is_empty() {
            continue;
        }
        match tell(context, &id, &cpus).await {
            Ok(()) => {
                tracing::debug!(
                    container = id,
                    name = one.container,
                    cpus,
                    "runs on other processors"
                );
                if let Some(known) = context.pins.told().get_mut(&id) {
                    known.cpus = cpus;
                }
            }
            Err(error) if error.is_not_found() => drop(context.pins.told().remove(&id)),
            Err(error) => {
                tracing::warn!(container = id, %error, "cannot change the container's processors");
                done = false;
            }
        }
    }
    done
}

async fn tell(context: &Context, id: &str, cpus: &str) -> Result<(), cri::CriError> {
    let request = cri::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(cri::LinuxContainerResources {
            cpuset_cpus: cpus.to_owned(),
            ..cri::LinuxContainerResources::default()
        }),
        ..cri::UpdateContainerResourcesRequest::default()
    };
    context
        .runtime()
        .update_container_resources(request)
        .await
        .map(drop)
}

/// Takes up containers that ran before this kubelet began, and forgets those that have ended.
fn look(context: &Context) {
    let views = context.shared.all();
    let mut told = context.pins.told();
    for view in &views {
        for record in &view.containers {
            match record.state {
                ContainerState::Exited => drop(told.remove(&record.id)),
                ContainerState::Running => {
                    told.entry(record.id.clone()).or_insert_with(|| Told {
                        uid: view.pod.uid().to_owned(),
                        container: record.name.clone(),
                        cpus: String::new(),
                    });
                }
                _ => {}
            }
        }
    }
    told.retain(|_, one| views.iter().any(|view| view.pod.uid() == one.uid));
}
