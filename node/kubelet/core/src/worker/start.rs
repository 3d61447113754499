//! Starting one container (upstream: `startContainer` in `kuberuntime/kuberuntime_container.go`).

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use knode_client::EventKind;
use knode_cri as cri;
use tokio::sync::watch;

use super::context::{Context, FieldSource};
use super::image::{Mounted, Present, Subject};
use super::measure::{Spent, container_type};
use super::outcome::StartFailure;
use super::pins::cpus_of;
use super::{Outcome, files, hooks, mounts, sandbox};
use crate::devices::put_into;
use crate::env::{EnvObjects, Environment, environment, files_of, objects_of};
use crate::error::ConfigError;
use crate::model::{ContainerRecord, ContainerState};
use crate::pod::{ContainerKind, PodExt};
use crate::spec::container::{ContainerInputs, config};

/// What to start and where.
pub(super) struct Start {
    pub name: String,
    pub kind: ContainerKind,
    pub attempt: u32,
    pub sandbox_id: String,
    pub source: FieldSource,
    pub cancel: watch::Receiver<bool>,
    pub seen: Timestamp,
    /// What having images takes while the pod starts.
    pub images: Option<Arc<Spent>>,
    pub target: Option<Target>,
}

/// The container whose processes another is to see.
pub(super) enum Target {
    /// The runtime has one, with this id.
    Container(String),
    /// There is none of this name.
    Missing(String),
}

/// Starts the container and runs its postStart hook.
pub(super) async fn run(context: Arc<Context>, pod: Arc<Pod>, work: Start) -> Outcome {
    let name = work.name.clone();
    let Some((_, container)) = pod.container(&name) else {
        return Outcome::Started {
            container: name,
            record: None,
            failure: None,
        };
    };
    let subject = Subject {
        context: &context,
        pod: &pod,
        container: &container,
        kind: work.kind,
    };
    let (metrics, kind) = (&context.config.metrics.pods, container_type(work.kind));
    metrics.container(kind);
    let (record, failure) = match created(&subject, &work).await {
        Ok(id) => begun(&subject, &work, &id).await,
        Err(failure) => (None, Some(failure)),
    };
    if let Some(failure) = failure.as_ref().filter(|failure| !failure.cancelled) {
        metrics.container_failed(kind, failure.reason);
    }
    Outcome::Started {
        container: name,
        record: record.map(Box::new),
        failure,
    }
}

/// Image, configuration, creation; the container's id.
async fn created(subject: &Subject<'_>, work: &Start) -> Result<String, StartFailure> {
    let mounted = subject.mounted_images(&work.cancel);
    let mounted = match &work.images {
        Some(spent) => spent.on(mounted).await?,
        None => mounted.await?,
    };
    let image = subject.image(work.cancel.clone());
    let image = match &work.images {
        Some(spent) => spent.on(image).await?,
        None => image.await?,
    };
    let config_failure = |error: ConfigError| {
        let text = chain(&error);
        subject.failure("CreateContainerConfigError", &text.clone(), text)
    };
    let request = request(subject, work, image, &mounted)
        .await
        .map_err(config_failure)?;
    let pinned = cpus_of(&request);
    match subject.context.runtime().create_container(request).await {
        Ok(answer) => {
            subject
                .context
                .note_pin(&answer.container_id, subject.pod, &work.name, pinned);
            subject.event(EventKind::Normal, "Created", "Container created");
            Ok(answer.container_id)
        }
        Err(error) => {
            let text = error.to_string();
            Err(subject.failure("CreateContainerError", &text.clone(), text))
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

async fn request(
    subject: &Subject<'_>,
    work: &Start,
    image: Present,
    mounted: &Mounted,
) -> Result<cri::CreateContainerRequest, ConfigError> {
    let (context, pod, container) = (subject.context, subject.pod, subject.container);
    let target_id = match &work.target {
        None => None,
        Some(Target::Container(id)) => Some(id.clone()),
        Some(Target::Missing(name)) => return Err(ConfigError::NoTarget(name.clone())),
    };
    let variables = variables(context, pod, container, &work.source).await?;
    let devices = context.config.devices.of_container(pod, container).await;
    let devices = devices.map_err(ConfigError::Devices)?;
    let variables = variables.over(&devices.envs);
    let mounts = mounts::mounts(context, pod, container, &work.source, &variables, mounted)?;
    let seccomp_root = context.config.root_dir.join("seccomp");
    let inputs = ContainerInputs {
        attempt: work.attempt,
        image_id: image.id,
        image_user: image.user,
        env: &variables,
        mounts,
        node_memory: work.source.node_memory(),
        seccomp_root: &seccomp_root.to_string_lossy(),
        target_id,
    };
    let mut made = config(pod, container, inputs)?;
    context.config.rules.put_into(&mut made, pod, container);
    put_into(&mut made, devices);
    made.devices.extend(mounts::devices(context, pod, container)?);
    if let Some(users) = context.users_of(pod)? {
        give_users(&mut made, users);
    }
    let logs = crate::spec::sandbox::log_directory(&context.config.pod_logs_dir, pod).join(&container.name);
    files::directory(&logs).map_err(|source| ConfigError::File { path: logs, source })?;
    Ok(cri::CreateContainerRequest {
        pod_sandbox_id: work.sandbox_id.clone(),
        config: Some(made),
        sandbox_config: Some(sandbox::sandbox_config(context, pod, 0, work.seen)?),
    })
}

/// The container's users are the pod's, and files of its mounts belong to them.
fn give_users(config: &mut cri::ContainerConfig, users: cri::UserNamespace) {
    for mount in &mut config.mounts {
        mount.uid_mappings.clone_from(&users.uids);
        mount.gid_mappings.clone_from(&users.gids);
    }
    let linux = config.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    security.namespace_options.get_or_insert_default().userns_options = Some(users);
}

/// Reads what the environment refers to and builds it.
async fn variables(
    context: &Context,
    pod: &Pod,
    container: &Container,
    source: &FieldSource,
) -> Result<Environment, ConfigError> {
    let (maps, secrets) = objects_of(container);
    let mut objects = EnvObjects::default();
    for name in maps {
        let found = context
            .api
            .config_map(pod.ns(), &name)
            .await
            .map_err(ConfigError::Object)?;
        objects.config_maps.insert(name, found);
    }
    for name in secrets {
        let found = context
            .api
            .secret(pod.ns(), &name)
            .await
            .map_err(ConfigError::Object)?;
        objects.secrets.insert(name, found);
    }
    for (volume, path) in files_of(container) {
        if let Some((directory, _)) = context.volumes.host_path(pod, volume) {
            let text = crate::env::file::read(&directory, path);
            objects.files.insert((volume.to_owned(), path.to_owned()), text);
        }
    }
    let links = pod
        .spec()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let services = context.api.services(pod.ns(), links);
    let services = match pod.is_static() {
        // A static pod may be what the API server needs to answer.
        true => services.now_or_never().unwrap_or_default(),
        false => services.await,
    };
    environment(container, source.fields(pod), &objects, &services)
}

/// Starts what was created.
async fn begun(
    subject: &Subject<'_>,
    work: &Start,
    id: &str,
) -> (Option<ContainerRecord>, Option<StartFailure>) {
    let request = cri::StartContainerRequest {
        container_id: id.to_owned(),
    };
    if let Err(error) = subject.context.runtime().start_container(request).await {
        let text = error.to_string();
        let failure = subject.failure("RunContainerError", &text.clone(), text.clone());
        return (Some(failed_record(subject, work, id, &text).await), Some(failure));
    }
    subject.event(EventKind::Normal, "Started", "Container started");
    let record = look(subject, work, id).await;
    if let Some(record) = &record {
        let (links, log) = (
            &subject.context.config.container_logs_dir,
            std::path::Path::new(&record.log_path),
        );
        if let Err(error) = files::link_log(links, subject.pod, &work.name, id, log) {
            tracing::warn!(container = id, %error, "cannot link the container's log");
        }
    }
    match post_start(subject, work, id).await {
        Ok(()) => (record, None),
        Err(failure) => (look(subject, work, id).await, Some(failure)),
    }
}

async fn look(subject: &Subject<'_>, work: &Start, id: &str) -> Option<ContainerRecord> {
    match subject.context.look(id, &work.sandbox_id).await {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(container = id, %error, "cannot ask the runtime about a container");
            None
        }
    }
}

/// The record of a container that was created and could not be started: it has ended.
async fn failed_record(subject: &Subject<'_>, work: &Start, id: &str, text: &str) -> ContainerRecord {
    let known = look(subject, work, id).await;
    if let Some(record) = known
        .clone()
        .filter(|record| record.state == ContainerState::Exited)
    {
        return record;
    }
    let now = subject.context.now();
    let image = subject.container.image.clone().unwrap_or_default();
    let base = known.unwrap_or_else(|| ContainerRecord {
        id: id.to_owned(),
        name: work.name.clone(),
        sandbox_id: work.sandbox_id.clone(),
        attempt: work.attempt,
        state: ContainerState::Exited,
        created_at: now,
        started_at: None,
        finished_at: None,
        exit_code: 128,
        reason: String::new(),
        message: String::new(),
        image,
        image_id: String::new(),
        hash: crate::spec::hash::container(subject.container),
        log_path: String::new(),
        user: None,
    });
    ContainerRecord {
        state: ContainerState::Exited,
        finished_at: Some(now),
        exit_code: 128,
        reason: "StartError".to_owned(),
        message: text.to_owned(),
        ..base
    }
}

/// Runs the postStart hook; if it fails the container is stopped.
async fn post_start(subject: &Subject<'_>, work: &Start, id: &str) -> Result<(), StartFailure> {
    let hook = subject
        .container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.post_start.as_ref());
    let Some(hook) = hook else { return Ok(()) };
    let pod_ip = work.source.pod_ips().first().cloned().unwrap_or_default();
    let Err(error) = hooks::run(subject.context, subject.container, id, &pod_ip, hook).await else {
        return Ok(());
    };
    tracing::info!(pod = %subject.pod.full_name(), container = work.name, error, "postStart hook failed");
    subject.event(EventKind::Warning, "FailedPostStartHook", "PostStartHook failed");
    subject.event(EventKind::Normal, "Killing", "FailedPostStartHook");
    let timeout = subject.pod.grace_seconds();
    let request = cri::StopContainerRequest {
        container_id: id.to_owned(),
        timeout,
    };
    if let Err(error) = subject.context.runtime().stop_container(request).await {
        tracing::warn!(container = id, %error, "cannot stop the container");
    }
    Err(StartFailure {
        reason: "PostStartHookError",
        message: "PostStartHook failed".to_owned(),
        image: None,
        cancelled: false,
    })
}
