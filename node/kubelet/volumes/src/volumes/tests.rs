mod disks;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::*;
use crate::drivers::{DriverMount, DriverUsage, DriverVolume};
use crate::error::Phase;
use crate::objects::{ObjectError, Token, TokenQuery, TrustQuery};

/// Objects that a test changes as it goes.
#[derive(Default)]
struct Fake {
    config_maps: Mutex<BTreeMap<String, Arc<ConfigMap>>>,
    secrets: Mutex<BTreeMap<String, Arc<Secret>>>,
    tokens: AtomicU32,
    /// By path.
    others: Mutex<BTreeMap<String, Value>>,
}

impl Fake {
    fn config_map(&self, name: &str, data: Value) {
        let map: ConfigMap = serde_json::from_value(json!({"data": data})).unwrap();
        self.config_maps
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(map));
    }

    /// A claim that is bound to a volume of this source.
    fn claim(&self, name: &str, source: Value) {
        let claim = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"volumeName": format!("pv-{name}")}, "status": {"phase": "Bound"}});
        let mut volume = json!({"metadata": {"name": format!("pv-{name}")},
            "spec": {"claimRef": {"uid": name}, "capacity": {"storage": "1Gi"}}});
        let spec = volume["spec"].as_object_mut().unwrap();
        spec.extend(source.as_object().cloned().unwrap());
        let mut others = self.others.lock().unwrap();
        others.insert(
            format!("/api/v1/namespaces/n/persistentvolumeclaims/{name}"),
            claim,
        );
        others.insert(format!("/api/v1/persistentvolumes/pv-{name}"), volume);
    }

    fn secret(&self, name: &str, data: Value) {
        let secret: Secret = serde_json::from_value(json!({"data": data})).unwrap();
        self.secrets
            .lock()
            .unwrap()
            .insert(name.to_owned(), Arc::new(secret));
    }
}

#[async_trait]
impl Objects for Fake {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        Ok(self.config_maps.lock().unwrap().get(name).cloned())
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<Secret>>, ObjectError> {
        Ok(self.secrets.lock().unwrap().get(name).cloned())
    }

    async fn trust_bundles(&self, query: &TrustQuery) -> Result<Vec<String>, ObjectError> {
        let TrustQuery::Name(name) = query else {
            return Ok(Vec::new());
        };
        let text = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Ok(name.strip_prefix("of-").map(text).into_iter().collect())
    }

    async fn object(&self, path: &str) -> Result<Option<Value>, ObjectError> {
        Ok(self.others.lock().unwrap().get(path).cloned())
    }

    async fn token(&self, query: &TokenQuery) -> Result<Token, ObjectError> {
        let number = self.tokens.fetch_add(1, Ordering::SeqCst);
        let expires = Timestamp::from_second(1000 + query.expiration_seconds).unwrap();
        Ok(Token {
            token: format!("token-{number}"),
            expires,
        })
    }
}

/// A kubelet root of its own, emptied of mounts even when the test fails.
struct Bench {
    volumes: Volumes,
    fake: Arc<Fake>,
}

impl Bench {
    fn new(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "tests of volumes mount file systems and need root"
        );
        let root = std::env::temp_dir().join(format!("knode-volumes-{name}-{}", std::process::id()));
        let fake = Arc::new(Fake::default());
        Self {
            volumes: Volumes::new(PodPaths::new(root), fake.clone()),
            fake,
        }
    }

    async fn set_up(&self, pod: &Pod, second: i64) -> Result<SetUp, String> {
        let allocatable = BTreeMap::new();
        let ips = ["10.0.0.2".to_owned()];
        let fields = PodFields {
            pod,
            pod_ips: &ips,
            host_ips: &[],
            allocatable: &allocatable,
        };
        let now = Timestamp::from_second(second).unwrap();
        self.volumes.set_up(fields, now).await.map_err(|errors| {
            errors
                .iter()
                .map(|(name, error)| format!("{name}: {error}"))
                .collect::<Vec<_>>()
                .join("; ")
        })
    }

    fn path(&self, pod: &Pod, volume: &str) -> PathBuf {
        self.volumes.host_path(pod, volume).unwrap().0
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for error in self.volumes.tear_down("u").err().into_iter().flatten() {
            eprintln!("left behind: {error}");
        }
        // A leftover scratch directory does no harm.
        let _ = fs::remove_dir_all(self.volumes.paths.root());
    }
}

fn pod(volumes: Value, extra: Value) -> Pod {
    let mut spec =
        json!({"containers": [{"name": "c"}], "volumes": volumes, "serviceAccountName": "default"});
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().cloned().unwrap_or_default());
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "labels": {"l": "v"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn token_volume() -> Value {
    json!([{"name": "api", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}}])
}

#[tokio::test]
async fn the_service_account_volume_lies_in_memory_and_renews_its_token() {
    let bench = Bench::new("token");
    bench.fake.config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    let pod = pod(token_volume(), json!({}));
    let done = bench.set_up(&pod, 1000).await.unwrap();
    assert_eq!(
        done,
        SetUp {
            changed: true,
            // 80 % of its life, less this pod's share of ten seconds.
            refresh_at: Some(Timestamp::from_second(1000 + 2885 - 8).unwrap()),
            ..SetUp::default()
        }
    );
    let path = bench.path(&pod, "api");
    assert!(path.ends_with("pods/u/volumes/kubernetes.io~projected/api"));
    assert!(mount::is_mount_point(&path).unwrap());
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!(
        (read("token"), read("ca.crt"), read("namespace")),
        ("token-0".into(), "CA".into(), "n".into())
    );
    assert_eq!(fs::metadata(path.join("token")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o1777);

    assert!(
        !bench.set_up(&pod, 2000).await.unwrap().changed,
        "a fresh token was replaced"
    );
    assert!(
        bench.set_up(&pod, 3885).await.unwrap().changed,
        "an old token was kept"
    );
    assert_eq!(read("token"), "token-1");
}

#[tokio::test]
async fn a_token_for_a_call_is_held_and_nobody_waits_for_its_end() {
    let bench = Bench::new("call");
    let pod = pod(json!([]), json!({}));
    let query = TokenQuery {
        namespace: "n".to_owned(),
        service_account: "default".to_owned(),
        pod_name: "p".to_owned(),
        pod_uid: uid(&pod).to_owned(),
        audiences: vec!["registry".to_owned()],
        expiration_seconds: 1000,
    };
    let at = |second| Timestamp::from_second(second).unwrap();
    let ask = async |second| {
        bench
            .volumes
            .token_for_call(query.clone(), at(second))
            .await
            .unwrap()
            .token
    };
    assert_eq!(ask(1000).await, "token-0");
    assert_eq!(ask(1700).await, "token-0");
    assert_eq!(ask(1801).await, "token-1", "most of its life is over");
    assert_eq!(bench.set_up(&pod, 1900).await.unwrap().refresh_at, None);
    bench.volumes.unmount(uid(&pod)).unwrap();
    assert_eq!(ask(1802).await, "token-2", "the pod has ended");
}

#[tokio::test]
async fn a_token_belongs_to_the_only_user_of_the_pod() {
    let bench = Bench::new("owner");
    bench.fake.config_map("kube-root-ca.crt", json!({"ca.crt": "CA"}));
    let pod = pod(token_volume(), json!({"securityContext": {"runAsUser": 1000}}));
    bench.set_up(&pod, 1000).await.unwrap();
    let metadata = fs::metadata(bench.path(&pod, "api").join("token")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (1000, 0o600));
}

#[tokio::test]
async fn missing_objects_fail_with_upstreams_words_and_leave_nothing() {
    let bench = Bench::new("missing");
    let pod = pod(
        json!([{"name": "v", "secret": {"secretName": "nosecret"}}, {"name": "e", "emptyDir": {}}]),
        json!({}),
    );
    let error = bench.set_up(&pod, 1).await.unwrap_err();
    assert_eq!(error, "v: secret \"nosecret\" not found");
    assert!(!bench.path(&pod, "v").exists());
    bench.fake.secret("nosecret", json!({"pw": "c3dvcmRmaXNo"}));
    bench.set_up(&pod, 2).await.unwrap();
    assert_eq!(
        fs::read_to_string(bench.path(&pod, "v").join("pw")).unwrap(),
        "swordfish"
    );
}

#[tokio::test]
async fn a_changed_config_map_reaches_the_volume() {
    let bench = Bench::new("update");
    bench.fake.config_map("cm", json!({"a": "1"}));
    let pod = pod(
        json!([{"name": "v", "configMap": {"name": "cm", "defaultMode": 256}}]),
        json!({}),
    );
    bench.set_up(&pod, 1).await.unwrap();
    bench.fake.config_map("cm", json!({"a": "2"}));
    assert!(bench.set_up(&pod, 2).await.unwrap().changed);
    let file = bench.path(&pod, "v").join("a");
    assert_eq!(fs::read_to_string(&file).unwrap(), "2");
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o400);
}

#[tokio::test]
async fn empty_dirs_keep_their_content_limit_and_group() {
    let bench = Bench::new("empty");
    let volumes = json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]);
    let pod = pod(volumes, json!({"securityContext": {"fsGroup": 4321}}));
    bench.set_up(&pod, 1).await.unwrap();
    let (disk, mem) = (bench.path(&pod, "disk"), bench.path(&pod, "mem"));
    fs::write(disk.join("kept"), "x").unwrap();
    bench.set_up(&pod, 2).await.unwrap();
    assert_eq!(fs::read_to_string(disk.join("kept")).unwrap(), "x");
    let metadata = fs::metadata(&disk).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4321, 0o2777));
    let full = fs::write(mem.join("big"), vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(nix::libc::ENOSPC));
}

#[tokio::test]
async fn host_paths_are_what_they_say() {
    let bench = Bench::new("host");
    let made = bench.volumes.paths.root().join("made/dir");
    let text = made.to_str().unwrap();
    let one = |kind: &str| {
        pod(
            json!([{"name": "h", "hostPath": {"path": text, "type": kind}}]),
            json!({}),
        )
    };
    let error = bench.set_up(&one("Directory"), 1).await.unwrap_err();
    assert_eq!(
        error,
        format!("h: hostPath type check failed: {text} is not a directory")
    );
    bench.set_up(&one("DirectoryOrCreate"), 1).await.unwrap();
    bench.set_up(&one("Directory"), 1).await.unwrap();
    let error = bench.set_up(&one("Socket"), 1).await.unwrap_err();
    assert_eq!(
        error,
        format!("h: hostPath type check failed: {text} is not a socket file")
    );
    assert_eq!(bench.path(&one(""), "h"), made);
}

#[tokio::test]
async fn a_sub_path_stays_in_its_volume() {
    let bench = Bench::new("sub");
    bench.fake.config_map("cm", json!({"a": "1"}));
    let pod = pod(
        json!([{"name": "e", "emptyDir": {}}, {"name": "cm", "configMap": {"name": "cm"}}]),
        json!({}),
    );
    bench.set_up(&pod, 1).await.unwrap();
    let made = bench.volumes.sub_path(&pod, "e", "new/dir", "c", 0).unwrap();
    fs::write(made.join("f"), "x").unwrap();
    assert_eq!(
        fs::read_to_string(bench.path(&pod, "e").join("new/dir/f")).unwrap(),
        "x"
    );
    let file = bench.volumes.sub_path(&pod, "cm", "a", "c", 1).unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), "1");
    assert!(bench.volumes.sub_path(&pod, "e", "../../x", "c", 2).is_err());
    std::os::unix::fs::symlink("/", bench.path(&pod, "e").join("out")).unwrap();
    let out = bench.volumes.sub_path(&pod, "e", "out", "c", 3).unwrap();
    assert!(!out.join("proc").exists(), "a link led out of the volume");
}

#[tokio::test]
async fn tear_down_unmounts_and_removes_but_never_through_a_mount() {
    let bench = Bench::new("teardown");
    bench.fake.secret("s", json!({"pw": "eA=="}));
    let foreign = bench.volumes.paths.root().join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("precious"), "x").unwrap();
    let pod = pod(
        json!([{"name": "s", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}]),
        json!({}),
    );
    bench.set_up(&pod, 1).await.unwrap();
    let inside = bench.path(&pod, "e").join("mounted");
    fs::create_dir(&inside).unwrap();
    mount::bind(&foreign, &inside).unwrap();
    bench.volumes.tear_down("u").unwrap();
    assert!(!bench.volumes.paths.pod("u").exists());
    assert_eq!(fs::read_to_string(foreign.join("precious")).unwrap(), "x");
    bench.volumes.tear_down("u").unwrap();
}

#[tokio::test]
async fn trust_bundles_come_as_one_file_and_are_looked_at_again() {
    let bench = Bench::new("bundles");
    let volume = |name: &str, optional: bool| {
        let source = json!({"clusterTrustBundle": {"path": "ca.pem", "name": name, "optional": optional}});
        pod(
            json!([{"name": "v", "projected": {"sources": [source]}}]),
            json!({}),
        )
    };
    let missing = bench.set_up(&volume("none", false), 1000).await.unwrap_err();
    assert_eq!(
        missing,
        "v: clustertrustbundle.certificates.k8s.io \"none\" not found"
    );
    let found = volume("of-AAAA", false);
    let done = bench.set_up(&found, 1000).await.unwrap();
    assert_eq!(done.refresh_at, Timestamp::from_second(1060).ok());
    let text = fs::read_to_string(bench.path(&found, "v").join("ca.pem")).unwrap();
    assert_eq!(
        text,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    );
    let empty = volume("none", true);
    bench.set_up(&empty, 1000).await.unwrap();
    assert_eq!(
        fs::read_to_string(bench.path(&empty, "v").join("ca.pem")).unwrap(),
        ""
    );
}

/// A driver that binds a directory, and says what it was asked.
#[derive(Default)]
struct FakeDriver {
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Drivers for FakeDriver {
    async fn mount(&self, volume: &DriverVolume, pod: &Pod) -> Result<DriverMount, VolumeError> {
        let text = format!("{} {} {}", volume.driver, volume.name, volume.persistent);
        self.asked.lock().unwrap().push(text);
        match volume.driver.as_str() {
            "broken" => Err(VolumeError::in_phase(
                Phase::SetUp,
                &volume.name,
                "rpc error: it is broken",
            )),
            _ => Ok(DriverMount {
                path: format!("/mounted/{}", uid(pod)).into(),
                grown: volume.size.as_ref().is_some_and(|size| size.wanted > size.had),
            }),
        }
    }

    async fn unmount(&self, pod_uid: &str) -> Result<(), Vec<VolumeError>> {
        self.asked.lock().unwrap().push(format!("unmount {pod_uid}"));
        Ok(())
    }

    async fn usage(&self, _: &Path) -> Option<Result<DriverUsage, VolumeError>> {
        None
    }
}

#[tokio::test]
async fn claims_are_mounted_as_what_they_are_bound_to() {
    let mut bench = Bench::new("claims");
    let driver = Arc::new(FakeDriver::default());
    let volumes = Volumes::new(bench.volumes.paths.clone(), bench.fake.clone());
    bench.volumes = volumes.with_drivers(Some(driver.clone()));
    let disk = bench.volumes.paths.root().join("disk");
    fs::create_dir_all(&disk).unwrap();
    fs::write(disk.join("kept"), "x").unwrap();
    bench.fake.claim("local", json!({"local": {"path": disk}}));
    bench
        .fake
        .claim("driven", json!({"csi": {"driver": "d", "volumeHandle": "h"}}));
    bench.fake.claim("odd", json!({"iscsi": {"lun": 1}}));
    let by = |claims: &[&str]| {
        let volume = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}});
        pod(claims.iter().map(volume).collect(), json!({}))
    };
    let used = by(&["local", "driven"]);
    let done = bench.set_up(&used, 1000).await.unwrap();
    assert_eq!(done.grown, ["driven"]);
    assert_eq!(done.refresh_at, Timestamp::from_second(1060).ok());
    let (path, read_only) = bench.volumes.host_path(&used, "local").unwrap();
    assert!(read_only && path.ends_with("pods/u/volumes/kubernetes.io~local-volume/pv-local"));
    assert_eq!(fs::read_to_string(path.join("kept")).unwrap(), "x");
    assert_eq!(bench.path(&used, "driven"), Path::new("/mounted/u"));
    assert_eq!(*driver.asked.lock().unwrap(), ["d pv-driven true"]);

    for (claim, expected) in [
        (
            "none",
            "n/none: failed to fetch PVC from API server: persistentvolumeclaims \"none\" not found",
        ),
        ("odd", "unsupported volume: PersistentVolume of iscsi"),
    ] {
        let error = bench.set_up(&by(&[claim]), 1000).await.unwrap_err();
        assert!(error.ends_with(expected), "{error}");
    }
    let inline = pod(json!([{"name": "v", "csi": {"driver": "broken"}}]), json!({}));
    let error = bench.set_up(&inline, 1000).await.unwrap_err();
    assert_eq!(error, "v: rpc error: it is broken");
    bench.volumes.release("u").await.unwrap();
    bench.volumes.tear_down("u").unwrap();
    assert_eq!(
        fs::read_to_string(disk.join("kept")).unwrap(),
        "x",
        "what was mounted is there"
    );
}

#[tokio::test]
async fn what_a_driver_has_published_is_not_removed() {
    let bench = Bench::new("published");
    let own = bench.volumes.paths.pod("u").join("volumes/kubernetes.io~csi/pv");
    fs::create_dir_all(own.join("mount")).unwrap();
    fs::write(own.join("vol_data.json"), "{}").unwrap();
    let errors = bench.volumes.tear_down("u").unwrap_err();
    assert!(
        matches!(errors[..], [VolumeError::StillPublished(_)]),
        "{errors:?}"
    );
    fs::remove_file(own.join("vol_data.json")).unwrap();
    bench.volumes.tear_down("u").unwrap();
}
