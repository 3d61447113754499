//! Volumes by claims and by a CSI driver: what pods see, what is staged and published, and that it all goes.
//! Over the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::{Path, PathBuf};

use knode_e2e::{BOUND, Cluster, CsiDriver};
use knode_linux::overlay::mount_points_below;
use knode_testkit::wait_until;

const DRIVER: &str = "bind.csi.example";
const ATTACHED: &str = "attached.csi.example";

#[test]
fn volumes_of_claims_and_drivers() {
    work(Cluster::machine("volumes"));
}

#[test]
fn the_same_over_containerd() {
    work(Cluster::over_containerd("volumes-cd"));
}

fn work(mut cluster: Cluster) {
    cluster.start(&[]);
    cluster.import_busybox("busybox:test");
    cluster.apply(CLASSES).ok();
    data_of_claims_outlives_pods(&cluster);
    data_of_a_disk_outlives_pods(&cluster);
    let own = driver(&cluster, DRIVER);
    a_driver_stages_once_and_publishes_for_each_pod(&cluster, &own);
    a_volume_is_attached_before_it_is_mounted(&cluster);
    a_kill_in_the_middle_leaves_nothing_twice(&mut cluster, &own);
}

fn kubelet(cluster: &Cluster) -> PathBuf {
    PathBuf::from(cluster.data_dir()).join("kubelet")
}

fn driver(cluster: &Cluster, name: &str) -> CsiDriver {
    CsiDriver::start(name, &cluster.scratch.join(name), &kubelet(cluster))
}

/// A pod that writes its name into a file of its volume and shows what is there.
fn pod(name: &str, volume: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 4321}}
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo {name} >> /data/names; cat /data/names; stat -c %g /data; exec sleep 3600']
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes:
  - {{name: data, {volume}}}
"
    )
}

/// A volume and a claim for it, both of this name.
fn claimed(name: &str, source: &str, class: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: '{class}'
  {source}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: '{class}'
  resources: {{requests: {{storage: 500Mi}}}}
"
    )
}

fn by_claim(name: &str) -> String {
    format!("persistentVolumeClaim: {{claimName: {name}}}")
}

fn csi(driver: &str, handle: &str, more: &str) -> String {
    format!("csi: {{driver: {driver}, volumeHandle: {handle}, fsType: ext4{more}}}")
}

fn delete(cluster: &Cluster, pods: &str) {
    cluster
        .kubectl(&format!("delete pod {pods} --wait=true --timeout=60s"))
        .ok();
}

fn mounts(below: &Path) -> Vec<PathBuf> {
    mount_points_below(below).unwrap()
}

fn logs(cluster: &Cluster, pod: &str, wanted: &[&str]) {
    wait_until(&format!("the log of {pod}"), BOUND, || {
        let logs = cluster.kubectl(&format!("logs {pod}")).result()?;
        let missing = wanted.iter().find(|line| !logs.lines().any(|one| one == **line));
        missing.map_or(Ok(()), |line| Err(format!("no {line:?} in {logs:?}")))
    });
}

/// Waits for an event about an object.
fn event(cluster: &Cluster, object: &str, reason: &str, text: &str) {
    let what = format!("events --field-selector involvedObject.name={object},reason={reason}");
    cluster.wait(&what, |events| {
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let found = items
            .iter()
            .any(|one| one["message"].as_str().is_some_and(|m| m.contains(text)));
        if found { Ok(()) } else { Err(format!("{items:?}")) }
    });
}

fn phase(cluster: &Cluster, what: &str, wanted: &str) {
    cluster.wait(what, |object| match object["status"]["phase"].as_str() {
        Some(phase) if phase == wanted => Ok(()),
        other => Err(format!("{other:?}: {object}")),
    });
}

const CLASSES: &str = r"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: bind}
provisioner: bind.csi.example
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: bind.csi.example}
spec:
  attachRequired: false
  podInfoOnMount: true
  tokenRequests: [{audience: bind}]
  volumeLifecycleModes: [Persistent, Ephemeral]
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {word: sesame}
";

/// Where a volume can be had.
fn affinity(node: &str) -> String {
    format!(
        "nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}"
    )
}

/// What a claim is bound to goes where it can be had, and what pods write stays.
fn data_of_claims_outlives_pods(cluster: &Cluster) {
    let (local, host) = (cluster.scratch.join("local"), cluster.scratch.join("host"));
    std::fs::create_dir_all(&local).unwrap();
    std::fs::create_dir_all(&host).unwrap();
    let source = format!("local: {{path: {}}}\n  {}", local.display(), affinity("node1"));
    cluster.apply(&claimed("local", &source, "local")).ok();
    let elsewhere = format!("local: {{path: {}}}\n  {}", local.display(), affinity("node9"));
    cluster.apply(&claimed("elsewhere", &elsewhere, "")).ok();
    let source = format!("hostPath: {{path: {}}}", host.display());
    cluster.apply(&claimed("host", &source, "")).ok();
    phase(cluster, "pvc host", "Bound");
    phase(cluster, "pvc elsewhere", "Bound");
    event(
        cluster,
        "local",
        "WaitForFirstConsumer",
        "waiting for first consumer to be created before binding",
    );

    for (name, claim) in [("local-1", "local"), ("host-1", "host"), ("nowhere", "elsewhere")] {
        cluster.apply(&pod(name, &by_claim(claim))).ok();
    }
    cluster.apply(&pod("none", &by_claim("none"))).ok();
    cluster
        .apply(&pod("nfs", "nfs: {server: 192.0.2.1, path: /export}"))
        .ok();
    cluster.wait_ready("pod local-1");
    cluster.wait_ready("pod host-1");
    phase(cluster, "pvc local", "Bound");
    phase(cluster, "pv local", "Bound");
    logs(cluster, "local-1", &["local-1", "4321"]);
    let table = cluster.kubectl("get pvc host").ok();
    assert!(
        table.contains("RWO") && table.contains("1Gi") && table.contains("Bound"),
        "{table}"
    );
    let words = "1 node(s) didn't match PersistentVolume's node affinity";
    event(cluster, "nowhere", "FailedScheduling", words);
    event(
        cluster,
        "none",
        "FailedScheduling",
        "persistentvolumeclaim \"none\" not found",
    );
    if !Path::new("/sbin/mount.nfs").exists() {
        event(
            cluster,
            "nfs",
            "FailedMount",
            "needs the host's helper /sbin/mount.nfs",
        );
    }

    // A claim that is used is not deleted; one that is not used any more is.
    cluster.kubectl("delete pvc host --wait=false").ok();
    assert!(cluster.get("pvc host")["metadata"]["deletionTimestamp"].is_string());
    delete(cluster, "local-1 host-1 nowhere none nfs");
    phase(cluster, "pv host", "Released");
    assert!(cluster.try_get("pvc host").is_err(), "the claim is gone");
    cluster.apply(&pod("local-2", &by_claim("local"))).ok();
    cluster.wait_ready("pod local-2");
    logs(cluster, "local-2", &["local-1", "local-2"]);
    delete(cluster, "local-2");
    assert_eq!(mounts(&kubelet(cluster)), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_to_string(host.join("names")).unwrap(), "host-1\n");
    let kept = std::fs::read_to_string(local.join("names")).unwrap();
    assert_eq!(kept, "local-1\nlocal-2\n");
}

/// A disk; it goes with this.
struct Disk(String);

impl Disk {
    fn new(file: &Path) -> Self {
        std::fs::File::create(file).unwrap().set_len(64 << 20).unwrap();
        Self(run("losetup", &["--find", "--show", &file.display().to_string()]))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.0]);
    }
}

fn run(program: &str, words: &[&str]) -> String {
    let output = std::process::Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An empty disk gets a file system, which is mounted while pods have it. What holds something else stays as it is.
fn data_of_a_disk_outlives_pods(cluster: &Cluster) {
    let disk = |name: &str| Disk::new(&cluster.scratch.join(name));
    let (empty, foreign) = (disk("empty"), disk("foreign"));
    run("mkswap", &[&foreign.0]);
    let before = std::fs::read(&foreign.0).unwrap();
    for (name, disk) in [("raw", &empty), ("foreign", &foreign)] {
        let source = format!(
            "local: {{path: {}, fsType: ext4}}\n  {}",
            disk.0,
            affinity("node1")
        );
        cluster.apply(&claimed(name, &source, "local")).ok();
        cluster.apply(&pod(&format!("{name}-1"), &by_claim(name))).ok();
    }
    cluster.wait_ready("pod raw-1");
    logs(cluster, "raw-1", &["raw-1", "4321"]);
    let shared = kubelet(cluster).join("plugins/kubernetes.io/local-volume/mounts/raw");
    assert!(mounts(&kubelet(cluster)).contains(&shared));
    event(cluster, "foreign-1", "FailedMount", "it already contains swap");
    assert!(std::fs::read(&foreign.0).unwrap() == before, "it was written to");
    delete(cluster, "raw-1 foreign-1");
    cluster.apply(&pod("raw-2", &by_claim("raw"))).ok();
    cluster.wait_ready("pod raw-2");
    logs(cluster, "raw-2", &["raw-1", "raw-2"]);
    delete(cluster, "raw-2");
    assert_eq!(mounts(&kubelet(cluster)), Vec::<PathBuf>::new());
}

/// The driver is asked to stage once and to publish for each pod, with all that it wants to know; nothing is left.
fn a_driver_stages_once_and_publishes_for_each_pod(cluster: &Cluster, own: &CsiDriver) {
    cluster.wait("csinode node1", |node| match &node["spec"]["drivers"][0] {
        one if one["nodeID"] == format!("{DRIVER}-here") && one["allocatable"]["count"] == 16 => Ok(()),
        other => Err(other.to_string()),
    });
    let node = cluster.get("node node1");
    assert_eq!(
        node["metadata"]["labels"][format!("topology.{DRIVER}/place")],
        "here"
    );
    let secrets = ", nodeStageSecretRef: {name: key, namespace: default}, volumeAttributes: {colour: blue}";
    cluster
        .apply(&claimed("shared", &csi(DRIVER, "vol-shared", secrets), ""))
        .ok();
    cluster.apply(&pod("one", &by_claim("shared"))).ok();
    cluster.apply(&pod("two", &by_claim("shared"))).ok();
    cluster.wait_ready("pod one");
    cluster.wait_ready("pod two");
    logs(cluster, "one", &["one", "4321"]);
    let calls = own.calls("vol-shared");
    let staged: Vec<_> = calls.iter().filter(|call| call.name == "stage").collect();
    let published: Vec<_> = calls.iter().filter(|call| call.name == "publish").collect();
    assert_eq!((staged.len(), published.len()), (1, 2), "{calls:?}");
    assert_eq!(
        (&staged[0].secrets["word"][..], &staged[0].context["colour"][..]),
        ("sesame", "blue")
    );
    let told = &published[0].context;
    assert_eq!(told["csi.storage.k8s.io/pod.namespace"], "default");
    assert_eq!(told["csi.storage.k8s.io/ephemeral"], "false");
    assert!(
        told["csi.storage.k8s.io/serviceAccount.tokens"].contains("\"bind\""),
        "{told:?}"
    );
    assert!(staged[0].target.ends_with("globalmount") && published[0].target.ends_with("shared/mount"));

    its_driver_says_how_full_it_is(cluster);
    grows(cluster, own);
    ephemeral(cluster, own);

    delete(cluster, "one two");
    wait_until("the volume to be unstaged", BOUND, || {
        match own.names("vol-shared").last() {
            Some(&"unstage") => Ok(()),
            _ => Err(format!("{:?}", own.names("vol-shared"))),
        }
    });
    assert_eq!(mounts(&kubelet(cluster)), Vec::<PathBuf>::new());
    let names = std::fs::read_to_string(own.volume("vol-shared").join("names")).unwrap();
    assert_eq!(names.lines().count(), 2, "{names}");
}

/// Under the pod's name of it, and its claim's.
fn its_driver_says_how_full_it_is(cluster: &Cluster) {
    let raw = |path: &str| {
        let path = format!("get --raw /api/v1/nodes/node1/proxy/{path}");
        cluster.kubectl(&path).ok()
    };
    let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary")).unwrap();
    let mut pods = summary["pods"].as_array().unwrap().iter();
    let pod = pods.find(|pod| pod["podRef"]["name"] == "one").unwrap();
    let claim = serde_json::json!({"name": "shared", "namespace": "default"});
    let mut volumes = pod["volume"].as_array().unwrap().iter();
    let volume = volumes.find(|volume| volume["pvcRef"] == claim);
    let volume = volume.unwrap_or_else(|| panic!("{pod}"));
    assert_eq!(
        (&volume["name"], &volume["capacityBytes"], &volume["inodesUsed"]),
        (&"data".into(), &(1 << 30).into(), &10.into()),
        "{volume}"
    );
    assert!(!pod["volume"].to_string().contains("\"shared\",\"time"), "{pod}");
    let metrics = raw("metrics");
    let line =
        "kubelet_volume_stats_used_bytes{namespace=\"default\",persistentvolumeclaim=\"shared\"} 1048576";
    assert!(metrics.contains(line), "{metrics}");
}

/// A volume that was made larger is made so on the node, and its claim says so.
fn grows(cluster: &Cluster, own: &CsiDriver) {
    let patch = |what: &str, patch: &str| {
        let words = ["patch", what, "shared", "--type=merge", "-p", patch];
        cluster.kubectl_by(&knode_e2e::kubectl::default(), &words).ok();
    };
    patch("pvc", r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#);
    patch("pv", r#"{"spec":{"capacity":{"storage":"2Gi"}}}"#);
    // What a resizer does; the kubelet looks when something about the pod changes, and once a minute.
    cluster.kubectl("label pod one grow=now").ok();
    cluster.wait(
        "pvc shared",
        |claim| match claim["status"]["capacity"]["storage"].as_str() {
            Some("2Gi") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    let calls = own.calls("vol-shared");
    let grown: Vec<_> = calls.iter().filter(|call| call.name == "expand").collect();
    assert_eq!(grown.len(), 1, "{calls:?}");
    assert_eq!(grown[0].bytes, 2 << 30);
    event(
        cluster,
        "one",
        "FileSystemResizeSuccessful",
        "MountVolume.NodeExpandVolume succeeded",
    );
}

/// Volumes for one pod alone: inline, and by a claim that comes and goes with the pod.
fn ephemeral(cluster: &Cluster, own: &CsiDriver) {
    let inline = format!("csi: {{driver: {DRIVER}, volumeAttributes: {{size: small}}}}");
    cluster.apply(&pod("inline", &inline)).ok();
    let generic = "ephemeral: {volumeClaimTemplate: {metadata: {labels: {kind: own}}, spec: {accessModes: [ReadWriteOnce], storageClassName: bind, resources: {requests: {storage: 1Mi}}}}}";
    cluster.apply(&pod("generic", generic)).ok();
    // What a provisioner does once the scheduler has chosen a node.
    let claim = cluster.wait("pvc generic-data", |claim| {
        match claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].as_str() {
            Some("node1") => Ok(claim.clone()),
            other => Err(format!("{other:?}: {claim}")),
        }
    });
    let uid = claim["metadata"]["uid"].as_str().unwrap();
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "Pod");
    let source = csi(DRIVER, "vol-generic", "");
    let made = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: made}}\nspec:\n  capacity: {{storage: 1Mi}}\n  accessModes: [ReadWriteOnce]\n  storageClassName: bind\n  persistentVolumeReclaimPolicy: Delete\n  claimRef: {{namespace: default, name: generic-data, uid: {uid}}}\n  {source}\n"
    );
    cluster.apply(&made).ok();
    cluster.wait_ready("pod generic");
    let pod = cluster.wait_ready("pod inline");
    logs(cluster, "inline", &["inline"]);
    delete(cluster, "inline generic");
    wait_until("the pod's claim to go", BOUND, || {
        cluster.try_get("pvc generic-data").is_err()
    });
    phase(cluster, "pv made", "Released");
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(!kubelet(cluster).join("pods").join(uid).exists());
    assert!(
        own.names("vol-generic").ends_with(&["unpublish", "unstage"]),
        "{:?}",
        own.names("vol-generic")
    );
}

/// A volume that has to be attached waits until it is, and is detached when nobody needs it.
fn a_volume_is_attached_before_it_is_mounted(cluster: &Cluster) {
    let own = driver(cluster, ATTACHED);
    cluster
        .apply(&claimed("disk", &csi(ATTACHED, "vol-disk", ""), ""))
        .ok();
    cluster.apply(&pod("user", &by_claim("disk"))).ok();
    let attachments = |count: usize| {
        cluster.wait("volumeattachments", |all| {
            let items = all["items"].as_array().cloned().unwrap_or_default();
            if items.len() == count {
                Ok(items)
            } else {
                Err(format!("{items:?}"))
            }
        })
    };
    let attachment = attachments(1).remove(0);
    assert_eq!(attachment["spec"]["source"]["persistentVolumeName"], "disk");
    assert_eq!(
        own.names("vol-disk"),
        Vec::<&str>::new(),
        "mounted before it was attached"
    );
    // What an attacher does.
    let name = attachment["metadata"]["name"].as_str().unwrap();
    let patch = r#"{"status":{"attached":true,"attachmentMetadata":{"device":"/dev/x"}}}"#;
    let words = [
        "patch",
        "volumeattachment",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    ];
    cluster.kubectl_by(&knode_e2e::kubectl::default(), &words).ok();
    cluster.wait_ready("pod user");
    assert_eq!(own.calls("vol-disk")[0].attachment["device"], "/dev/x");
    cluster.wait("node node1", |node| {
        match node["status"]["volumesAttached"][0]["name"].as_str() {
            Some(name) if name == format!("kubernetes.io/csi/{ATTACHED}^vol-disk") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let in_use = |wanted: usize| {
        cluster.wait("node node1", |node| {
            let names = node["status"]["volumesInUse"].as_array().map_or(0, Vec::len);
            if names == wanted {
                Ok(())
            } else {
                Err(format!("{names} in use"))
            }
        });
    };
    in_use(1);
    delete(cluster, "user");
    in_use(0);
    attachments(0);
}

/// Killed in the middle of staging or publishing, the node mounts nothing twice and leaves nothing.
fn a_kill_in_the_middle_leaves_nothing_twice(cluster: &mut Cluster, own: &CsiDriver) {
    for name in ["kept", "gone"] {
        cluster
            .apply(&claimed(name, &csi(DRIVER, &format!("vol-{name}"), ""), ""))
            .ok();
    }
    for held in ["stage", "publish"] {
        own.hold(Some(held));
        cluster.apply(&pod("kept", &by_claim("kept"))).ok();
        wait_until("the driver to be asked", BOUND, || own.holds());
        cluster.kill();
        own.hold(None);
        cluster.start(&[]);
        cluster.wait_ready("pod kept");
        let points = mounts(&kubelet(cluster));
        let of_driver: Vec<_> = points
            .iter()
            .filter(|one| one.to_string_lossy().contains("csi"))
            .collect();
        assert_eq!(of_driver.len(), 2, "staged once and published once: {points:?}");
        delete(cluster, "kept");
    }

    // A pod that goes while no daemon runs: what it had goes once its driver is there.
    cluster.apply(&pod("gone", &by_claim("gone"))).ok();
    cluster.wait_ready("pod gone");
    own.hold(Some("unpublish"));
    cluster.kubectl("delete pod gone --wait=false").ok();
    wait_until("the driver to be asked to unpublish", BOUND, || own.holds());
    cluster.kill();
    own.hold(None);
    cluster.start(&[]);
    wait_until("the volume to be unstaged", BOUND, || {
        match own.names("vol-gone").last() {
            Some(&"unstage") => Ok(()),
            _ => Err(format!("{:?}", own.names("vol-gone"))),
        }
    });
    wait_until("nothing to be mounted", BOUND, || {
        let left = mounts(&kubelet(cluster));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    assert_eq!(
        std::fs::read_to_string(own.volume("vol-gone").join("names")).unwrap(),
        "gone\n"
    );
}
