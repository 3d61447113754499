//! CreateContainer.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use knode_cri::{ContainerConfig, ContainerEventType, CreateContainerRequest, NamespaceMode};
use knode_images::{Image, Reference};
use knode_linux::openat::RootDir;
use rustix::fs::{Mode, OFlags};

use super::{Container, apparmor, cdi, host, rootfs, scope};
use crate::crash;
use crate::engine::{Core, new_id, now_nanos};
use crate::error::{EngineError, FileContext, Result, chain};
use crate::sandbox::{Sandbox, files_of, namespace_paths};
use crate::shim::protocol::{Answer, Command};
use crate::spec::selinux::{self, Labels};
use crate::spec::{self, Input, Namespaces, PidNamespace};
use crate::state::{ContainerRecord, SandboxRecord, remove_dir, write_atomic, write_record};

impl Core {
    /// Makes a container and gives its id. When it fails nothing is left of it.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        request: CreateContainerRequest,
    ) -> Result<String> {
        let config = request
            .config
            .ok_or_else(|| EngineError::Invalid("the request has no config".into()))?;
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(EngineError::SandboxNotReady {
                sandbox: sandbox.id.clone(),
            });
        }
        let id = new_id();
        self.reserve_name(&unique_name(&config, &sandbox)?, &id)?;
        crash::point("create.begin");
        self.hasten_start();
        match self.make_parts_of(&id, config, &sandbox).await {
            Ok(record) => {
                let container = Arc::new(Container::new(record));
                self.insert_container(container.clone());
                self.tell_container(&container, ContainerEventType::ContainerCreatedEvent);
                Ok(id)
            }
            Err(error) => {
                self.undo_container(&id).await;
                Err(error)
            }
        }
    }

    /// Whoever starts the container will have to wait for the kernel before it can join control groups: that wait can
    /// begin now.
    fn hasten_start(&self) {
        let cgroups = self.cgroups.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cgroups.stir() {
                tracing::debug!(%error, "writing our own control group");
            }
        });
    }

    async fn make_parts_of(
        self: &Arc<Self>,
        id: &str,
        config: ContainerConfig,
        sandbox: &Sandbox,
    ) -> Result<ContainerRecord> {
        let record = sandbox.record();
        let mut namespaces = namespace_paths(&self.layout, &record);
        namespaces.pid = self
            .pid_namespace(&config, sandbox, namespaces.user.clone())
            .await?;
        crash::point("create.namespaces");
        let (engine, id) = (self.clone(), id.to_string());
        tokio::task::spawn_blocking(move || engine.make_container(&id, config, &record, &namespaces)).await?
    }

    fn make_container(
        &self,
        id: &str,
        config: ContainerConfig,
        sandbox: &SandboxRecord,
        namespaces: &Namespaces,
    ) -> Result<ContainerRecord> {
        let wanted = config
            .image
            .as_ref()
            .map(|image| image.image.as_str())
            .unwrap_or_default();
        let image = self.image(wanted)?;
        let mut record = self.new_container(id, config, sandbox, &image)?;
        record.program = self.config.runtimes.of(&sandbox.runtime_handler)?.cloned();
        let directory = self.layout.container(id);
        fs::create_dir_all(&directory).file("making", &directory)?;
        write_record(&directory, &record)?;
        crash::point("create.record");
        let snapshots = self.config.images.snapshots();
        snapshots.prepare(image.id.as_str(), id)?;
        crash::point("create.prepared");
        let root = snapshots.mount_labelled(id, record.file_label())?;
        crash::point("create.mounted");
        let image_sources = self.mount_images(&mut record)?;
        host::make_mount_sources(&record.config)?;
        self.relabel(&record, sandbox)?;
        self.specify(&mut record, sandbox, &image, namespaces, root, &image_sources)?;
        if let (Some(users), Some(maps)) = (&namespaces.user, sandbox.users()) {
            if record.program.is_some() {
                let what = "a user namespace with a runtime handler's own program";
                return Err(EngineError::Unsupported(what.into()));
            }
            self.stage(&record, users, &maps)?;
        }
        crash::point("create.specified");
        record.made = true;
        write_record(&directory, &record)?;
        crash::point("create.recorded");
        Ok(record)
    }

    fn image(&self, name: &str) -> Result<Image> {
        let found = self.config.images.status(name);
        found.ok_or_else(|| EngineError::Images(knode_images::Error::ImageNotFound(name.to_string())))
    }

    fn new_container(
        &self,
        id: &str,
        config: ContainerConfig,
        sandbox: &SandboxRecord,
        image: &Image,
    ) -> Result<ContainerRecord> {
        let log_path = spec::paths::log_path(&sandbox.config.log_directory, &config.log_path);
        let log_path = log_path.map_err(|source| EngineError::Spec {
            container: id.to_string(),
            source,
        })?;
        let labels = self
            .labels_of(id, &config, sandbox)
            .map_err(|source| EngineError::Spec {
                container: id.to_string(),
                source,
            })?;
        let image_id = image.id.to_string();
        Ok(ContainerRecord {
            id: id.to_string(),
            sandbox_id: sandbox.id.clone(),
            image_name: image
                .repo_tags
                .first()
                .or(image.repo_digests.first())
                .unwrap_or(&image_id)
                .clone(),
            image_ref: repo_digest(image, &config).unwrap_or(&image_id).clone(),
            image_id,
            created_at: now_nanos(),
            log_path,
            user: Default::default(),
            stop_signal: 0,
            cgroup: sandbox.cgroup_of(id),
            image_mounts: Vec::new(),
            labels,
            made: false,
            filtered: false,
            program: None,
            started: None,
            ended: None,
            boot_id: self.boot_id.clone(),
            config,
        })
    }

    fn labels_of(
        &self,
        id: &str,
        config: &ContainerConfig,
        sandbox: &SandboxRecord,
    ) -> std::result::Result<Option<Labels>, spec::SpecError> {
        let asked = || selinux::asked_by_container(config, sandbox.labels.as_ref());
        let selinux = self.selinux.as_ref();
        selinux.map(|selinux| selinux.label(id, &asked())).transpose()
    }

    /// Gives what the container is to use the label of its files: the sandbox's files, and mounts that ask for it.
    fn relabel(&self, record: &ContainerRecord, sandbox: &SandboxRecord) -> Result<()> {
        let Some(label) = record.file_label() else {
            return Ok(());
        };
        let files = files_of(&self.layout, sandbox);
        let own = [&files.resolv_conf, &files.hostname, &files.hosts, &files.shm];
        let own = own
            .into_iter()
            .filter(|path| !sandbox.host_ipc() || *path != &files.shm);
        let mounts = record.config.mounts.iter();
        let mounts = mounts.filter(|mount| mount.selinux_relabel && mount.image.is_none());
        for path in own
            .map(PathBuf::as_path)
            .chain(mounts.map(|mount| Path::new(&mount.host_path)))
        {
            crate::selinux::relabel(path, label)?;
        }
        Ok(())
    }

    /// Mounts the images that are mounted as volumes.
    fn mount_images(&self, record: &mut ContainerRecord) -> Result<Vec<PathBuf>> {
        let snapshots = self.config.images.snapshots();
        let label = record.file_label().map(str::to_owned);
        let mut sources = Vec::new();
        for (index, mount) in record.config.mounts.iter_mut().enumerate() {
            let Some(given) = &mut mount.image else { continue };
            let key = format!("{}-image-{index}", record.id);
            let image = self.image(&given.image)?;
            given.image_ref = image.id.to_string();
            record.image_mounts.push(key.clone());
            snapshots.prepare_view(image.id.as_str(), &key)?;
            let root = snapshots.mount_labelled(&key, label.as_deref())?;
            sources.push(part_of(&root, &mount.image_sub_path)?);
        }
        Ok(sources)
    }

    /// Writes the bundle.
    fn specify(
        &self,
        record: &mut ContainerRecord,
        sandbox: &SandboxRecord,
        image: &Image,
        namespaces: &Namespaces,
        root: PathBuf,
        image_mounts: &[PathBuf],
    ) -> Result<()> {
        let of = |source| EngineError::Spec {
            container: record.id.clone(),
            source,
        };
        let context = spec::security_context(&record.config);
        let inside = RootDir::open(&root).file("opening", &root)?;
        let user = rootfs::user(&inside, &context, &image.config.user).map_err(of)?;
        let stop_signal =
            spec::signal::stop_signal(record.config.stop_signal(), &image.config.stop_signal).map_err(of)?;
        let edits = cdi::edits(&record.config).map_err(of)?;
        let mut devices = host::devices(&record.config)?;
        host::add_nodes(&edits, &mut devices)?;
        let apparmor = apparmor::look();
        let spec = spec::build(&Input {
            config: &record.config,
            sandbox: &sandbox.config,
            image: &image.config,
            user: &user,
            rootfs: &root,
            cgroup: &scope::specified_group(record, sandbox),
            namespaces,
            files: &files_of(&self.layout, sandbox),
            hostname: &sandbox.hostname,
            image_mounts,
            devices: &devices,
            available_capabilities: self.capabilities,
            machine: &self.machine,
            apparmor: apparmor.as_ref(),
            labels: record.labels.as_ref(),
            by_program: record.program.is_some(),
            cdi: &edits,
            users: sandbox.users(),
        })
        .map_err(of)?;
        if let Some(process) = spec.process() {
            apparmor::ensure_profile(process.apparmor_profile().as_deref(), apparmor.as_ref())?;
            let directory = process.cwd().display().to_string();
            rootfs::make_directory(&inside, &directory).file("making working directory", process.cwd())?;
        }
        record.user = user;
        record.stop_signal = stop_signal;
        record.filtered = spec
            .linux()
            .as_ref()
            .is_some_and(|linux| linux.seccomp().is_some());
        let path = self.layout.container(&record.id).join("config.json");
        let text = serde_json::to_vec(&spec)
            .map_err(std::io::Error::from)
            .file("encoding", &path)?;
        write_atomic(&path, &text)
    }

    /// Puts other limits into the bundle of a container that has not been started.
    pub(crate) fn respecify(&self, id: &str, config: &ContainerConfig) -> Result<()> {
        let of = |source| EngineError::Spec {
            container: id.to_string(),
            source,
        };
        let path = self.layout.container(id).join("config.json");
        let mut spec = oci_spec::runtime::Spec::load(&path).map_err(|error| of(error.into()))?;
        if let Some(linux) = spec.linux_mut() {
            let devices = linux
                .resources()
                .as_ref()
                .and_then(|resources| resources.devices().clone());
            let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
            let devices = devices.unwrap_or_default();
            let resources = spec::linux_resources(resources, devices, &self.machine).map_err(of)?;
            linux.set_resources(Some(resources));
        }
        let text = serde_json::to_vec(&spec)
            .map_err(std::io::Error::from)
            .file("encoding", &path)?;
        write_atomic(&path, &text)
    }

    async fn pid_namespace(
        &self,
        config: &ContainerConfig,
        sandbox: &Sandbox,
        users: Option<PathBuf>,
    ) -> Result<PidNamespace> {
        match spec::pid_mode(config) {
            NamespaceMode::Container => Ok(PidNamespace::Own),
            NamespaceMode::Node => Ok(PidNamespace::Host),
            NamespaceMode::Pod if sandbox.with(SandboxRecord::host_pid) => Ok(PidNamespace::Host),
            NamespaceMode::Pod => match sandbox.link()?.call(pod_pid_namespace(users), &[]).await? {
                Answer::Started { pid, .. } => Ok(PidNamespace::At(format!("/proc/{pid}/ns/pid").into())),
                Answer::Failed { message } => Err(EngineError::Shim { message }),
                other => Err(EngineError::Shim {
                    message: format!("unexpected answer {other:?}"),
                }),
            },
            NamespaceMode::Target => {
                let context = spec::security_context(config);
                let target = context.namespace_options.unwrap_or_default().target_id;
                let target = self.container(&target)?;
                if target.sandbox_id != sandbox.id {
                    let text = format!(
                        "container {:?} (sandbox {}) does not belong to sandbox {}",
                        target.id, target.sandbox_id, sandbox.id
                    );
                    return Err(EngineError::Invalid(text));
                }
                let started = target.with(|record| record.started.filter(|_| record.ended.is_none()));
                let started = started.ok_or_else(|| EngineError::ContainerState {
                    container: target.id.clone(),
                    state: super::state_name(target.state()),
                })?;
                Ok(PidNamespace::At(format!("/proc/{}/ns/pid", started.pid).into()))
            }
        }
    }

    async fn undo_container(self: &Arc<Self>, id: &str) {
        let engine = self.clone();
        let of = id.to_string();
        let undo = tokio::task::spawn_blocking(move || {
            let mut errors = engine.remove_snapshots(&of);
            errors.extend(remove_dir(&engine.layout.container(&of)).err());
            errors
        });
        for error in undo.await.unwrap_or_else(|error| vec![error.into()]) {
            tracing::warn!(
                container = id,
                error = chain(&error),
                "undoing a container that could not be made"
            );
        }
        self.free_names(id);
    }

    /// Removes the root of a container and the images it mounts; goes on after errors.
    pub(crate) fn remove_snapshots(&self, id: &str) -> Vec<EngineError> {
        let snapshots = self.config.images.snapshots();
        let prefix = format!("{id}-image-");
        let all = match snapshots.list() {
            Ok(all) => all,
            Err(error) => return vec![error.into()],
        };
        let mine = all
            .into_iter()
            .filter(|snapshot| snapshot.key == id || snapshot.key.starts_with(&prefix));
        mine.filter_map(|snapshot| snapshots.remove(&snapshot.key).err().map(EngineError::from))
            .collect()
    }

    /// Tells subscribers about a container.
    pub(crate) fn tell_container(&self, container: &Container, kind: ContainerEventType) {
        if self.events.wanted() {
            let sandbox = self
                .sandbox(&container.sandbox_id)
                .ok()
                .map(|sandbox| sandbox.status());
            let all = self.containers_of(&container.sandbox_id);
            let statuses = all.iter().map(|container| container.status()).collect();
            self.events.send(&container.id, kind, sandbox, statuses);
        }
    }
}

/// The image's name with a digest: that of the repository which the container names, else the first.
fn repo_digest<'a>(image: &'a Image, config: &ContainerConfig) -> Option<&'a String> {
    let spec = config.image.as_ref();
    let asked = spec.and_then(|spec| Reference::parse(&spec.user_specified_image).ok());
    let repository = |text: &str| Reference::parse(text).ok().map(|name| (name.domain, name.path));
    let asked = asked.map(|name| (name.domain, name.path));
    let mut digests = image.repo_digests.iter();
    let same = digests.find(|text| asked.is_some() && repository(text) == asked);
    same.or(image.repo_digests.first())
}

fn pod_pid_namespace(users: Option<PathBuf>) -> Command {
    match users {
        None => Command::PodPidNamespace,
        Some(users) => Command::PodPidNamespaceOf { users },
    }
}

/// A part of an image that is mounted, never leading out of it.
fn part_of(root: &Path, part: &str) -> Result<PathBuf> {
    if part.is_empty() {
        return Ok(root.to_path_buf());
    }
    let refuse = |problem: &str| EngineError::Invalid(format!("image_sub_path {part:?}: {problem}"));
    if Path::new(part)
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(refuse("it must be relative and lead downwards"));
    }
    let inside = RootDir::open(root).file("opening", root)?;
    let found = inside
        .open_with(Path::new(part), OFlags::PATH, Mode::empty())
        .map_err(|error| refuse(&error.to_string()))?;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    fs::read_link(&path).file("reading", path)
}

/// Name under which no two containers may exist.
fn unique_name(config: &ContainerConfig, sandbox: &Sandbox) -> Result<String> {
    let missing = || EngineError::Invalid("container config must include metadata".into());
    let metadata = config.metadata.clone().ok_or_else(missing)?;
    if metadata.name.is_empty() {
        return Err(EngineError::Invalid("container metadata must have a name".into()));
    }
    Ok(format!("{}_{}_{}", metadata.name, sandbox.id, metadata.attempt))
}
