//! What the checks of one spec use: the daemon, and pods that go with the spec.

use std::cell::RefCell;
use std::ops::Deref;

use knode_cri::*;

use crate::machine::Machine;
use crate::support;
use crate::support::daemon::Daemon;

pub struct Case<'a> {
    pub machine: &'a Machine<'a>,
    name: &'static str,
    pods: RefCell<Vec<String>>,
}

impl Deref for Case<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.machine.daemon
    }
}

impl<'a> Case<'a> {
    pub fn new(machine: &'a Machine<'a>, name: &'static str) -> Self {
        Self {
            machine,
            name,
            pods: RefCell::default(),
        }
    }

    pub async fn remove_pods(&self) {
        let pods = self.pods.take();
        for pod in pods {
            self.stop_sandbox(&pod)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
            self.remove_sandbox(&pod)
                .await
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// A pod with nothing special about it.
    pub async fn pod(&self) -> String {
        self.pod_of(self.sandbox_config()).await
    }

    pub async fn pod_of(&self, config: PodSandboxConfig) -> String {
        let pod = self.run_sandbox(config).await.unwrap();
        self.pods.borrow_mut().push(pod.clone());
        pod
    }

    pub async fn privileged_pod(&self, privileged: bool) -> String {
        let config =
            support::sandbox_secured(self.sandbox_config(), |context| context.privileged = privileged);
        self.pod_of(config).await
    }

    /// The usual image for containers, pulled if it is not there.
    pub async fn image(&self) -> String {
        let name = self.machine.name("test-image-tag:all");
        if self.image_status(&name).await.is_none() {
            self.pull(&name).await;
        }
        name
    }

    /// A container of the usual image.
    pub async fn container(&self, words: &[&str]) -> ContainerConfig {
        self.container_of(&self.image().await, words)
    }

    pub fn container_of(&self, image: &str, words: &[&str]) -> ContainerConfig {
        let mut config = support::command(words);
        config.linux = None;
        config.image = Some(spec(image));
        config
    }

    /// A container that stays.
    pub async fn staying(&self) -> ContainerConfig {
        self.container(&["sleep", "1000"]).await
    }

    /// Makes and starts a container that stays, changed by `change`.
    pub async fn stays(&self, pod: &str, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = self.staying().await;
        change(&mut config);
        let id = self.run_config(pod, config).await;
        assert_eq!(self.status(&id).await.state(), ContainerState::ContainerRunning);
        id
    }

    pub async fn image_status(&self, name: &str) -> Option<Image> {
        let request = ImageStatusRequest {
            image: Some(spec(name)),
            verbose: false,
        };
        self.cri().image_status(request).await.unwrap().image
    }

    pub async fn pull(&self, name: &str) -> String {
        let request = PullImageRequest {
            image: Some(spec(name)),
            ..Default::default()
        };
        let answer = self.cri().pull_image(request).await;
        answer.unwrap_or_else(|error| panic!("{name}: {error}")).image_ref
    }

    pub async fn remove_image(&self, name: &str) {
        let request = RemoveImageRequest {
            image: Some(spec(name)),
        };
        self.cri().remove_image(request).await.unwrap();
    }

    pub async fn images(&self) -> Vec<Image> {
        let request = ListImagesRequest {
            filter: Some(ImageFilter::default()),
        };
        self.cri().list_images(request).await.unwrap().images
    }

    /// Runs a command that succeeds without a word of complaint; gives what it prints.
    pub async fn prints_inside(&self, id: &str, words: &[&str]) -> String {
        let answer = self.exec(id, words).await.unwrap();
        let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!((answer.exit_code, complaint.as_str()), (0, ""), "{words:?}");
        String::from_utf8(answer.stdout).unwrap()
    }

    /// Runs a command that fails; gives its complaint.
    pub async fn fails_inside(&self, id: &str, words: &[&str]) -> String {
        let answer = self.exec(id, words).await.unwrap();
        assert_ne!(answer.exit_code, 0, "{words:?}");
        String::from_utf8_lossy(&answer.stderr).into_owned()
    }

    pub async fn listed(&self, id: &str) -> Vec<Container> {
        let filter = ContainerFilter {
            id: id.into(),
            ..Default::default()
        };
        let request = ListContainersRequest { filter: Some(filter) };
        self.cri().list_containers(request).await.unwrap().containers
    }

    pub async fn listed_pods(&self, id: &str) -> Vec<PodSandbox> {
        let filter = PodSandboxFilter {
            id: id.into(),
            ..Default::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        self.cri().list_pod_sandbox(request).await.unwrap().items
    }

    pub async fn pod_status(&self, id: &str) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        self.cri()
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .status
            .unwrap()
    }
}

pub fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        user_specified_image: image.into(),
        ..Default::default()
    }
}
