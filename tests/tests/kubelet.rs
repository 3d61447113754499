//! What the kubelet does beside starting and ending pods: rotating logs, static pods, debugging, eviction, resizing. Over
//! the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use knode_e2e::{BOUND, Cluster, Output, ROOMY, Site, kubectl};
use knode_testkit::wait_until;
use serde_json::Value;

fn with_busybox(name: &str, options: &[&str]) -> Cluster {
    let mut cluster = Cluster::machine(name);
    cluster.start(options);
    cluster.import_busybox("busybox:test");
    cluster
}

const CONFIGURATION: &str = r"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: MANIFESTS
staticPodURL: http://127.0.0.1:18080/own.yaml
httpCheckFrequency: 1s
containerLogMaxSize: 16Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
";

#[test]
fn logs_static_pods_debuggers_limits_and_scratch_space() {
    work(Cluster::machine("kubelet"));
}

#[test]
fn the_same_over_containerd() {
    work(Cluster::over_containerd("kubelet-cd"));
}

fn work(mut cluster: Cluster) {
    let manifests = cluster.scratch.join("manifests");
    fs::create_dir_all(&manifests).unwrap();
    let file = cluster.scratch.join("kubelet.yaml");
    let text = CONFIGURATION.replace("MANIFESTS", &manifests.display().to_string());
    fs::write(&file, text).unwrap();
    let served = cluster.scratch.join("served");
    let _server = serve(&cluster, &served);
    cluster.start(&[&format!("--kubelet-config={}", file.display())]);
    cluster.import_busybox("busybox:test");
    // Full and measured while the others are looked at.
    cluster.apply(FILLING).ok();
    a_static_pod_runs_shows_and_follows_its_manifest(&cluster, &manifests);
    static_pods_are_fetched(&cluster, &served);
    kubectl_debug_sees_the_processes_of_a_running_container(&cluster);
    a_running_pod_gets_other_limits(&cluster);
    logs_are_rotated_and_who_follows_them_misses_nothing(&cluster);
    a_pod_that_fills_its_scratch_space_is_evicted(&cluster);
    metrics_tell_what_was_done(&cluster);
}

/// What has happened in this test, by the names that dashboards and alerts for upstream's kubelet ask for.
fn metrics_tell_what_was_done(cluster: &Cluster) {
    let page = cluster
        .kubectl("get --raw /api/v1/nodes/node1/proxy/metrics")
        .ok();
    let at_least = |name: &str, least: f64| {
        let values = page
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let total: f64 = values.sum();
        assert!(total >= least, "{name}: {total}, not {least} or more, in\n{page}");
    };
    at_least("kubelet_running_pods", 1.0);
    at_least("kubelet_running_containers{container_state=\"running\"}", 1.0);
    at_least("kubelet_desired_pods{static=\"\"}", 1.0);
    at_least("kubelet_started_pods_total", 3.0);
    at_least(
        "kubelet_started_containers_total{container_type=\"container\"}",
        3.0,
    );
    at_least(
        "kubelet_started_containers_total{container_type=\"ephemeral_container\"}",
        1.0,
    );
    at_least("kubelet_pod_start_duration_seconds_count", 3.0);
    at_least(
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"}",
        3.0,
    );
    at_least("kubelet_evictions{eviction_signal=\"emptydirfs.limit\"}", 1.0);
    at_least(
        "kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"}",
        3.0,
    );
    at_least(
        "kubelet_runtime_operations_duration_seconds_count{operation_type=\"start_container\"}",
        3.0,
    );
    at_least("kubelet_certificate_manager_client_ttl_seconds", 60.0);
    at_least("kubelet_certificate_manager_server_ttl_seconds", 60.0);
    at_least("process_cpu_seconds_total", 0.01);
    at_least("process_open_fds", 10.0);
    let asked = "rest_client_requests_total{code=\"200\",host=\"";
    assert!(page.contains(asked), "{asked} is not in\n{page}");
}

/// A process that is ended when this goes.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // Whoever has ended already needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow_logs(cluster: &Cluster, pod: &str, to: &Path) -> Background {
    let mut command = cluster.host.command(kubectl::default());
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["logs", "--follow", pod])
        .stdout(fs::File::create(to).unwrap())
        .stderr(Stdio::null());
    Background(command.spawn().unwrap())
}

const CHATTY: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'i=0; while true; do echo number $i; i=$((i+1)); usleep 2000; done']
";

/// The numbers of the lines, as far as they are whole.
fn numbers(text: &str) -> Vec<u64> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let number = line.strip_prefix("number ").and_then(|n| n.parse().ok());
            number.unwrap_or_else(|| panic!("a broken line: {line:?}"))
        })
        .collect()
}

fn rotated(cluster: &Cluster, pod: &str) -> Vec<PathBuf> {
    let uid = cluster.get(&format!("pod {pod}"))["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let directory = cluster
        .scratch
        .join(format!("data/log/pods/default_{pod}_{uid}/c"));
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|path| !path.ends_with("0.log"));
    paths.sort();
    paths
}

fn logs_are_rotated_and_who_follows_them_misses_nothing(cluster: &Cluster) {
    cluster.apply(CHATTY).ok();
    cluster.wait_ready("pod chatty");
    let copy = cluster.scratch.join("followed");
    let following = follow_logs(cluster, "chatty", &copy);
    let packed = wait_until("two rotations", BOUND, || {
        let files = rotated(cluster, "chatty");
        let packed = files
            .iter()
            .find(|path| path.extension().is_some_and(|e| e == "gz"));
        packed.cloned().ok_or_else(|| format!("{files:?}"))
    });
    assert!(
        fs::read(&packed).unwrap().starts_with(&[0x1f, 0x8b]),
        "not compressed"
    );
    let log = cluster.scratch.join("followed");
    let newest = rotated(cluster, "chatty").pop().unwrap();
    let newest = if newest.extension().is_some_and(|e| e == "gz") {
        packed
    } else {
        newest
    };
    assert!(newest.exists());
    // What comes after the second rotation comes to the follower too.
    let seen = numbers(&fs::read_to_string(&log).unwrap()).len();
    wait_until("lines after the rotation", BOUND, || {
        let now = numbers(&fs::read_to_string(&log).unwrap()).len();
        if now > seen + 1000 {
            Ok(())
        } else {
            Err(format!("{now} after {seen}"))
        }
    });
    drop(following);
    let all = numbers(&fs::read_to_string(&log).unwrap());
    let gap = all.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "lines are missing or doubled");
    assert_eq!(all[0], 0, "the follower came after the first rotation");
}

fn static_pod(command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: own}}\nspec:\n  hostNetwork: true\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: 'busybox:test', imagePullPolicy: Never, \
         command: [sh, -c, '{command}']}}\n"
    )
}

fn container_id(pod: &Value) -> String {
    pod["status"]["containerStatuses"][0]["containerID"].to_string()
}

fn a_static_pod_runs_shows_and_follows_its_manifest(cluster: &Cluster, manifests: &Path) {
    fs::write(
        manifests.join("own.yaml"),
        static_pod("echo first; exec sleep 3600"),
    )
    .unwrap();
    let first = cluster.wait_ready("pod own-node1");
    let annotations = &first["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(
        annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"],
        "{annotations}"
    );
    assert_eq!(cluster.kubectl("logs own-node1").ok(), "first\n");

    cluster.kubectl("delete pod own-node1 --wait=false").ok();
    let again = cluster.wait("pod own-node1", |pod| {
        let other = pod["metadata"]["uid"] != first["metadata"]["uid"];
        let running = pod["status"]["phase"] == "Running";
        if other && running {
            Ok(pod.clone())
        } else {
            Err(pod["metadata"].to_string())
        }
    });
    assert_eq!(
        container_id(&again),
        container_id(&first),
        "the pod itself runs on"
    );

    fs::write(
        manifests.join("own.yaml"),
        static_pod("echo second; exec sleep 3600"),
    )
    .unwrap();
    wait_until("the changed pod", BOUND, || {
        match cluster.kubectl("logs own-node1").result()? {
            text if text == "second\n" => Ok(()),
            text => Err(text),
        }
    });
    fs::remove_file(manifests.join("own.yaml")).unwrap();
    wait_until("the end of the pod", BOUND, || {
        match cluster.try_get("pod own-node1") {
            Err(error) if error.contains("NotFound") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Serves the files of a directory on the machine's own address.
fn serve(cluster: &Cluster, directory: &Path) -> Background {
    fs::create_dir_all(directory).unwrap();
    let mut command = cluster.host.command("busybox");
    command
        .args(["httpd", "-f", "-p", "127.0.0.1:18080", "-h"])
        .arg(directory);
    Background(command.spawn().unwrap())
}

/// There was nothing to fetch until now.
fn static_pods_are_fetched(cluster: &Cluster, served: &Path) {
    let replace = |text: &str| {
        // A look between must not see half of it.
        fs::write(served.join("new"), text).unwrap();
        fs::rename(served.join("new"), served.join("own.yaml")).unwrap();
    };
    replace(&static_pod("exec sleep 3600"));
    let pod = cluster.wait_ready("pod own-node1");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "http");
    replace("{apiVersion: v1, kind: PodList, items: []}");
    wait_until("the end of the fetched pod", BOUND, || {
        match cluster.try_get("pod own-node1") {
            Err(error) if error.contains("NotFound") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_static_pod_runs_without_an_api_server() {
    let mut site = Site::new("alone", 1);
    let (manifests, shared) = (site.path("manifests"), site.path("shared"));
    fs::create_dir_all(&manifests).unwrap();
    fs::create_dir_all(&shared).unwrap();
    let options = ["--pod-manifest-path", &manifests];
    site.server(&[]);
    site.node("node1", 0, &options);
    site.all_ready(&["nodes"], 1);
    site.kill("node1");
    site.kill("server");
    let mut manifest: String = static_pod("echo ran > /shared/mark; exec sleep 3600");
    manifest = manifest.replace(
        "- {name: c,",
        "- {name: c, volumeMounts: [{name: v, mountPath: /shared}],",
    );
    manifest += &format!("  volumes:\n  - {{name: v, hostPath: {{path: '{shared}'}}}}\n");
    fs::write(format!("{manifests}/own.yaml"), manifest).unwrap();
    site.node("node1", 0, &options);
    wait_until("the pod's mark", BOUND, || {
        let mark = fs::read_to_string(format!("{shared}/mark"));
        mark.map_err(|e| format!("{e}\n{}", site.log("node1")))
    });
    site.server(&[]);
    let pods = site.all_ready(&["pods", "--field-selector", "metadata.name=own-node1"], 1);
    assert_eq!(pods[0]["status"]["containerStatuses"][0]["restartCount"], 0);
}

const PATIENT: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: patient}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}
";

fn kubectl_debug_sees_the_processes_of_a_running_container(cluster: &Cluster) {
    cluster.apply(PATIENT).ok();
    cluster.wait_ready("pod patient");
    let debug = "debug patient --image=busybox:test --image-pull-policy=Never --target=c --container=look -- \
                 sh -c ps;exit";
    let arguments: Vec<&str> = debug.split_whitespace().collect();
    cluster.kubectl_by(&kubectl::default(), &arguments).ok();
    cluster.wait("pod patient", |pod| {
        let status = &pod["status"]["ephemeralContainerStatuses"][0];
        let ended = status["state"]["terminated"]["exitCode"] == 0;
        if ended && status["name"] == "look" {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let seen = cluster.kubectl("logs patient -c look").ok();
    assert!(
        seen.contains("sleep 3600"),
        "the target's process is not among\n{seen}"
    );
    let pod = cluster.get("pod patient");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

const GREEDY: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 60
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'trap : TERM; while true; do sleep 1; done']
    resources: {requests: {memory: 1Ki}}
";

#[test]
fn a_node_short_of_memory_says_so_and_evicts() {
    runs_short_of_memory(Cluster::machine("evict"));
}

#[test]
fn a_node_short_of_memory_evicts_over_containerd() {
    runs_short_of_memory(Cluster::over_containerd("evict-cd"));
}

fn runs_short_of_memory(mut cluster: Cluster) {
    let scarce = format!("{ROOMY},memory.available<99%");
    cluster.start(&[&scarce]);
    cluster.import_busybox("busybox:test");
    cluster.wait("node node1", |node| {
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let short = conditions
            .iter()
            .any(|c| c["type"] == "MemoryPressure" && c["status"] == "True");
        if short {
            Ok(())
        } else {
            Err(node["status"]["conditions"].to_string())
        }
    });
    cluster.apply(GREEDY).ok();
    let pod = cluster.wait("pod greedy", |pod| {
        if pod["status"]["phase"] == "Failed" {
            Ok(pod.clone())
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: "),
        "{message}"
    );
    assert!(message.contains("Container c was using "), "{message}");
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(target["reason"], "TerminationByKubelet");
    let events = cluster.get("events --field-selector reason=EvictionThresholdMet");
    assert_eq!(
        events["items"][0]["message"], "Attempting to reclaim memory",
        "{events}"
    );
}

const SMALL: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: small}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 32Mi}}
";

/// Asks for other resources of the container `c`.
fn resize(cluster: &Cluster, pod: &str, resources: &str) -> Output {
    let patch = format!(r#"{{"spec": {{"containers": [{{"name": "c", "resources": {resources}}}]}}}}"#);
    let arguments = ["patch", "pod", pod, "--subresource", "resize", "--patch", &patch];
    cluster.kubectl_by(&kubectl::default(), &arguments)
}

/// A limit of a container as the kernel has it.
fn limit(id: &str, v1: &str, v2: &str) -> String {
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{id}*")])
        .output()
        .unwrap();
    let groups = String::from_utf8(found.stdout).unwrap();
    let mut files = groups
        .lines()
        .flat_map(|group| [v1, v2].map(|file| format!("{group}/{file}")));
    files
        .find_map(|file| fs::read_to_string(file).ok())
        .unwrap_or_default()
}

fn a_running_pod_gets_other_limits(cluster: &Cluster) {
    cluster.apply(SMALL).ok();
    let before = cluster.wait_ready("pod small");
    let id = container_id(&before);
    let (_, id) = id.trim_matches('"').split_once("://").unwrap();
    let id = id.to_owned();
    assert_eq!(
        limit(&id, "memory.limit_in_bytes", "memory.max").trim(),
        "33554432"
    );
    let more =
        r#"{"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "300m", "memory": "64Mi"}}"#;
    resize(cluster, "small", more).ok();
    let after = cluster.wait("pod small", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        let there = status["resources"]["limits"]["memory"] == "64Mi";
        if there {
            Ok(pod.clone())
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(
        limit(&id, "memory.limit_in_bytes", "memory.max").trim(),
        "67108864"
    );
    assert!(
        limit(&id, "cpu.cfs_quota_us", "cpu.max").starts_with("30000"),
        "the processor's limit"
    );
    assert_eq!(container_id(&after), container_id(&before), "it was restarted");
    let less =
        r#"{"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}"#;
    resize(cluster, "small", less).ok();
    cluster.wait("pod small", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        let there = status["resources"]["limits"]["memory"] == "32Mi";
        if there {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    assert_eq!(
        limit(&id, "memory.limit_in_bytes", "memory.max").trim(),
        "33554432"
    );
    let never =
        r#"{"requests": {"cpu": "900", "memory": "32Mi"}, "limits": {"cpu": "901", "memory": "32Mi"}}"#;
    resize(cluster, "small", never).ok();
    cluster.wait("pod small", |pod| {
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let told = conditions
            .iter()
            .any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible");
        if told {
            Ok(())
        } else {
            Err(pod["status"]["conditions"].to_string())
        }
    });
}

const FILLING: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: filling}
spec:
  terminationGracePeriodSeconds: 60
  restartPolicy: Never
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'dd if=/dev/zero of=/scratch/file bs=1M count=3; sleep 3600']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - {name: scratch, emptyDir: {sizeLimit: 1Mi}}
";

fn a_pod_that_fills_its_scratch_space_is_evicted(cluster: &Cluster) {
    let pod = cluster.wait("pod filling", |pod| {
        if pod["status"]["phase"] == "Failed" {
            Ok(pod.clone())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let told = (&pod["status"]["reason"], &pod["status"]["message"]);
    let message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ";
    assert_eq!(told, (&Value::from("Evicted"), &Value::from(message)));
}

const OWN_USERS: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: own-users}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'exec 2>&1; cat /proc/self/uid_map; echo x > /scratch/f; ls -ln /scratch/f /settings; cat /settings/colour; echo; touch /below/f; ls /image/busybox /part; touch /image/x; echo end; exec sleep 3600']
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: settings, mountPath: /settings}
    - {name: scratch, mountPath: /below, readOnly: true, recursiveReadOnly: Enabled}
    - {name: image, mountPath: /image, subPath: bin}
    - {name: image, mountPath: /part}
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: image, image: {reference: 'busybox:test', pullPolicy: Never}}
  - {name: settings, configMap: {name: settings}}
";

#[test]
fn a_pod_has_users_of_its_own_and_its_volumes_are_theirs() {
    let cluster = with_busybox("users", &[]);
    cluster.apply(OWN_USERS).ok();
    let pod = cluster.wait_ready("pod own-users");
    let logs = wait_until("the end of what it prints", BOUND, || {
        let logs = cluster.kubectl("logs own-users").result()?;
        if logs.contains("end\n") {
            Ok(logs)
        } else {
            Err(logs)
        }
    });
    let map: Vec<&str> = logs.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", "65536", "65536"], "{logs}");
    assert!(logs.contains("blue"), "{logs}");
    assert!(logs.contains("/below/f: Read-only file system"), "{logs}");
    // An image as a volume, whole and in part.
    for seen in [
        "/image/busybox\n",
        "/part:\nbin\n",
        "/image/x: Read-only file system",
    ] {
        assert!(logs.contains(seen), "no {seen:?} in {logs}");
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let directory = cluster.scratch.join(format!("data/kubelet/pods/{uid}"));
    let file = directory.join("volumes/kubernetes.io~empty-dir/scratch/f");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap());
    assert_eq!(
        owner, 0,
        "the volume's files are the node's own root's, seen from the node"
    );
    let record = fs::read_to_string(directory.join("userns")).unwrap();
    assert!(record.contains("\"hostId\":65536"), "{record}");
    let mounts = pod["status"]["containerStatuses"][0]["volumeMounts"]
        .as_array()
        .unwrap();
    let below = mounts
        .iter()
        .find(|mount| mount["mountPath"] == "/below")
        .unwrap();
    assert_eq!(below["recursiveReadOnly"], "Enabled");
}
