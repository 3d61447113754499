//! A pod's life as an upstream kubelet (1.36) asks for it, recorded in front of containerd: every call in its order with
//! its own fields. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::fs;

use base64::Engine as _;
use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use serde_json::Value;
use support::daemon::Daemon;
use support::*;

/// A kubelet that starts.
const START: &str = include_str!("data/kubelet-start.jsonl");

/// A pod with an init container and a probe, from its sandbox to its removal.
const POD: &str = include_str!("data/kubelet-pod.jsonl");

/// Objects whose keys are not names of fields.
const MAPS: &[&str] = &["labels", "annotations", "sysctls", "unified", "labelSelector"];

/// Numbers of enumerations.
const ENUMS: &[(&str, i32)] = &[
    ("POD", 0),
    ("CONTAINER", 1),
    ("NODE", 2),
    ("TARGET", 3),
    ("RuntimeDefault", 0),
    ("Unconfined", 1),
    ("Localhost", 2),
];

/// Fields that are numbers, which JSON of protobuf writes as text.
const NUMBERS: &[&str] = &[
    "cpuPeriod",
    "cpuShares",
    "cpuQuota",
    "oomScoreAdj",
    "memoryLimitInBytes",
    "memorySwapLimitInBytes",
    "limit",
];

/// From JSON of protobuf to the field names and numbers of our messages.
fn convert(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) if MAPS.contains(&name) => Value::Object(fields.clone()),
        Value::Object(fields) => {
            let renamed = fields
                .iter()
                .map(|(key, value)| (snake(key), convert(key, value)));
            Value::Object(renamed.collect())
        }
        Value::Array(items) => items.iter().map(|item| convert(name, item)).collect(),
        Value::String(text) if NUMBERS.contains(&name) => text.parse::<i64>().unwrap().into(),
        Value::String(text) if matches!(name, "pid" | "ipc" | "network" | "mode" | "profileType") => {
            ENUMS.iter().find(|(word, _)| word == text).unwrap().1.into()
        }
        // A wrapped number; a variable's value is base64.
        Value::String(text) if name == "value" && text.parse::<i64>().is_ok() => {
            text.parse::<i64>().unwrap().into()
        }
        Value::String(text) if name == "value" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            String::from_utf8(bytes).unwrap().into()
        }
        other => other.clone(),
    }
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, c| {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        snake
    })
}

/// The kubelet's side: recorded ids and what they are here.
struct Kubelet {
    daemon: Daemon,
    ids: HashMap<String, String>,
    image: String,
}

impl Kubelet {
    fn id(&self, recorded: &Value) -> String {
        let recorded = recorded.as_str().unwrap();
        self.ids
            .get(recorded)
            .cloned()
            .unwrap_or_else(|| recorded.to_string())
    }

    fn text(&self, value: &Value) -> Value {
        let text = value.to_string();
        let run = self.daemon.scratch.join("kubelet-run").display().to_string();
        let text = text
            .replace("$RUN", &run)
            .replace("/kubepods/burstable/", &format!("{}/", self.daemon.cgroup));
        serde_json::from_str(&text).unwrap()
    }

    /// What the kubelet has made before it asks for a container.
    fn make_sources(config: &ContainerConfig) {
        for mount in &config.mounts {
            let path = std::path::Path::new(&mount.host_path);
            if matches!(
                mount.container_path.as_str(),
                "/etc/hosts" | "/dev/termination-log"
            ) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
    }

    async fn run_pod(&mut self, request: &Value, response: &Value) {
        let config = convert("config", &self.text(&request["config"]));
        let config: PodSandboxConfig = serde_json::from_value(config).unwrap();
        assert!(
            config
                .linux
                .as_ref()
                .unwrap()
                .cgroup_parent
                .starts_with(&self.daemon.cgroup)
        );
        let id = self.daemon.run_sandbox(config).await.unwrap();
        self.ids
            .insert(response["podSandboxId"].as_str().unwrap().into(), id);
    }

    async fn create(&mut self, request: &Value, response: &Value) {
        let config = convert("config", &self.text(&request["config"]));
        let mut config: ContainerConfig = serde_json::from_value(config).unwrap();
        config.image.as_mut().unwrap().image.clone_from(&self.image);
        Self::make_sources(&config);
        let sandbox = self.id(&request["podSandboxId"]);
        let id = self.daemon.create(&sandbox, config).await.unwrap();
        self.ids
            .insert(response["containerId"].as_str().unwrap().into(), id);
    }

    /// What was seen then comes to be seen now: the recorded kubelet asked when it had been told.
    async fn container_status(&self, id: &str, call: &Value) {
        if call["error"] == true {
            let request = ContainerStatusRequest {
                container_id: id.into(),
                verbose: false,
            };
            let error = self.daemon.cri().container_status(request).await.unwrap_err();
            assert_eq!(error.code, Code::NotFound);
            assert!(
                error
                    .message
                    .starts_with("an error occurred when try to find container"),
                "{error}"
            );
            return;
        }
        let wanted = call["response"]["state"].as_str().unwrap();
        if wanted == "CONTAINER_CREATED" {
            // It was started before: the answer came from a cache there.
            return;
        }
        let status = wait_until_async(wanted, BOUND, || async {
            let status = self.daemon.status(id).await;
            // A short program may have ended here before it was looked at.
            let seen = status.state().as_str_name();
            if seen == wanted || seen == "CONTAINER_EXITED" {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
        if wanted == "CONTAINER_EXITED" {
            assert_eq!(
                i64::from(status.exit_code),
                call["response"]["exitCode"].as_i64().unwrap()
            );
        }
        assert!(!status.image_ref.is_empty() && !status.log_path.is_empty());
    }

    async fn list(&self, method: &str, request: &Value) {
        let selector = request["filter"]["labelSelector"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let selector: HashMap<String, String> = selector
            .into_iter()
            .map(|(key, value)| (key, value.as_str().unwrap().to_string()))
            .collect();
        let cri = self.daemon.cri();
        let known: Vec<&String> = self.ids.values().collect();
        let ids: Vec<String> = if method == "ListPodSandbox" {
            let filter = PodSandboxFilter {
                label_selector: selector,
                ..Default::default()
            };
            let request = ListPodSandboxRequest { filter: Some(filter) };
            cri.list_pod_sandbox(request)
                .await
                .unwrap()
                .items
                .into_iter()
                .map(|item| item.id)
                .collect()
        } else {
            let filter = ContainerFilter {
                label_selector: selector,
                ..Default::default()
            };
            let request = ListContainersRequest { filter: Some(filter) };
            cri.list_containers(request)
                .await
                .unwrap()
                .containers
                .into_iter()
                .map(|item| item.id)
                .collect()
        };
        assert!(ids.iter().all(|id| known.contains(&id)), "{method}: {ids:?}");
    }

    async fn call(&mut self, call: &Value) {
        let name = call["call"].as_str().unwrap();
        let (request, response) = (&call["request"], &call["response"]);
        let (_, method) = name.split_once('/').unwrap();
        let container = || self.id(&request["containerId"]);
        match method {
            "RunPodSandbox" => self.run_pod(request, response).await,
            "CreateContainer" => self.create(request, response).await,
            "StartContainer" => self.daemon.start_container(&container()).await.unwrap(),
            "ContainerStatus" => self.container_status(&container(), call).await,
            "StopContainer" => {
                let grace = request["timeout"].as_str().unwrap().parse().unwrap();
                self.daemon.stop(&container(), grace).await.unwrap();
            }
            "RemoveContainer" => self.daemon.remove(&container()).await.unwrap(),
            "StopPodSandbox" => self
                .daemon
                .stop_sandbox(&self.id(&request["podSandboxId"]))
                .await
                .unwrap(),
            "RemovePodSandbox" => self
                .daemon
                .remove_sandbox(&self.id(&request["podSandboxId"]))
                .await
                .unwrap(),
            "ListPodSandbox" | "ListContainers" => self.list(method, request).await,
            "ExecSync" => {
                let answer = self.daemon.exec_for(&container(), &["true"], 1).await.unwrap();
                assert_eq!(answer.exit_code, 0);
            }
            "PodSandboxStatus" => {
                let request = PodSandboxStatusRequest {
                    pod_sandbox_id: self.id(&request["podSandboxId"]),
                    verbose: false,
                };
                let status = self
                    .daemon
                    .cri()
                    .pod_sandbox_status(request)
                    .await
                    .unwrap()
                    .status
                    .unwrap();
                assert_eq!(status.state().as_str_name(), response["state"].as_str().unwrap());
            }
            "UpdateRuntimeConfig" => self.network(request).await,
            other => self.unchanged(other).await,
        }
    }

    /// The pod network's range reaches whoever makes the network.
    async fn network(&self, request: &Value) {
        let cidr = request["runtimeConfig"]["networkConfig"]["podCidr"]
            .as_str()
            .unwrap();
        let network_config = Some(NetworkConfig {
            pod_cidr: cidr.into(),
        });
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig { network_config }),
        };
        self.daemon.cri().update_runtime_config(request).await.unwrap();
        assert_eq!(
            fs::read_to_string(self.daemon.scratch.join("pod-cidr")).unwrap(),
            cidr
        );
    }

    /// Calls that ask for nothing of this pod.
    async fn unchanged(&self, method: &str) {
        let cri = self.daemon.cri();
        match method {
            "Version" => assert_eq!(
                cri.version(VersionRequest::default())
                    .await
                    .unwrap()
                    .runtime_api_version,
                "v1"
            ),
            "Status" => {
                let status = cri
                    .status(StatusRequest::default())
                    .await
                    .unwrap()
                    .status
                    .unwrap();
                assert!(
                    status.conditions.iter().all(|condition| condition.status),
                    "{status:?}"
                );
            }
            "ImageStatus" => {
                let image = Some(ImageSpec {
                    image: self.image.clone(),
                    ..Default::default()
                });
                let request = ImageStatusRequest {
                    image,
                    verbose: false,
                };
                assert_eq!(
                    cri.image_status(request).await.unwrap().image.unwrap().id,
                    self.image
                );
            }
            "ImageFsInfo" => {
                let info = cri.image_fs_info(ImageFsInfoRequest {}).await.unwrap();
                assert_eq!(info.image_filesystems.len(), 1);
            }
            "ListContainerStats" => {
                let request = ListContainerStatsRequest::default();
                drop(cri.list_container_stats(request).await.unwrap());
            }
            "RuntimeConfig" => {
                let config = cri.runtime_config(RuntimeConfigRequest {}).await.unwrap();
                assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
            }
            "ListImages" => assert_eq!(
                cri.list_images(ListImagesRequest::default())
                    .await
                    .unwrap()
                    .images
                    .len(),
                1
            ),
            other => panic!("{other} is not replayed"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_kubelets_calls_are_answered_in_its_order() {
    let daemon = Daemon::new("replay").await;
    let images = daemon
        .cri()
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .images;
    let mut kubelet = Kubelet {
        image: images[0].id.clone(),
        daemon,
        ids: HashMap::new(),
    };
    let mut seen = 0;
    for line in START.lines().chain(POD.lines()) {
        let call: Value = serde_json::from_str(line).unwrap();
        kubelet.call(&call).await;
        seen += 1;
    }
    assert!(seen > 55, "{seen} calls");
    kubelet.daemon.clear().await;
    kubelet.daemon.assert_clean("the replay");
}
