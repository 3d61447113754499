use std::sync::Arc;

use knode_client::{AnyKind, AnyObjects, ObjectKey};
use serde_json::{Value, json};

use super::plan::{ATTACHMENTS, CLAIMS, CLASSES, DRIVERS, Plan, Step, VOLUMES, World};
use super::{attach, bind, ephemeral, protect};

/// The API as the controllers see it: what they write is there at once.
#[derive(Default)]
struct Api {
    world: World,
    uids: u32,
}

fn objects(world: &mut World, kind: AnyKind) -> &mut AnyObjects {
    match kind {
        VOLUMES => &mut world.volumes,
        CLAIMS => &mut world.claims,
        CLASSES => &mut world.classes,
        DRIVERS => &mut world.drivers,
        ATTACHMENTS => &mut world.attachments,
        other => panic!("no {}", other.plural),
    }
}

fn key(object: &Value) -> ObjectKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    ObjectKey::new(text("namespace"), text("name"))
}

impl Api {
    fn put(&mut self, kind: AnyKind, mut object: Value) {
        if object["metadata"]["uid"].is_null() {
            self.uids += 1;
            object["metadata"]["uid"] = format!("u{}", self.uids).into();
        }
        objects(&mut self.world, kind).insert(key(&object), Arc::new(object));
    }

    fn get(&self, kind: AnyKind, namespace: &str, name: &str) -> Value {
        let mut world = self.world.clone();
        let found = objects(&mut world, kind)
            .get(&ObjectKey::new(namespace, name))
            .cloned();
        found.map(|one| one.as_ref().clone()).unwrap_or_default()
    }

    fn write(&mut self, plan: &Plan) {
        for write in &plan.writes {
            if write.kind == super::plan::NODES {
                continue;
            }
            let all = objects(&mut self.world, write.kind);
            let key = key(&write.object);
            let finalizers = write.object["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            let goes = super::plan::is_going(&write.object) && !finalizers;
            match write.step {
                Step::Delete => drop(all.remove(&key)),
                Step::Update if goes => drop(all.remove(&key)),
                // As the server does it: an update leaves the status, a status update all else.
                Step::Update => {
                    let mut object = write.object.clone();
                    object["status"] = all[&key]["status"].clone();
                    all.insert(key, Arc::new(object));
                }
                Step::Status => {
                    let mut object = all[&key].as_ref().clone();
                    object["status"] = write.object["status"].clone();
                    all.insert(key, Arc::new(object));
                }
                Step::Create => self.put(write.kind, write.object.clone()),
                Step::MergeStatus => {}
            }
        }
    }

    /// Lets all controllers write until none wants to.
    fn settle(&mut self) -> Vec<&'static str> {
        let mut notes = Vec::new();
        for _ in 0..30 {
            let mut quiet = true;
            for plan in [
                bind::plan,
                protect::claims,
                protect::volumes,
                ephemeral::plan,
                attach::plan,
            ] {
                let wanted = plan(&self.world);
                quiet &= wanted.writes.iter().all(|one| one.step == Step::MergeStatus);
                notes.extend(wanted.notes.iter().map(|note| note.reason));
                self.write(&wanted);
            }
            if quiet {
                return notes;
            }
        }
        panic!("they never come to rest");
    }
}

fn volume(name: &str, more: Value) -> Value {
    let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Retain"}, "status": {"phase": "Pending"}});
    for (field, value) in more.as_object().unwrap() {
        volume["spec"][field] = value.clone();
    }
    volume
}

fn claim(name: &str, more: Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "n"}, "status": {"phase": "Pending"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}}});
    for (field, value) in more.as_object().unwrap() {
        claim["spec"][field] = value.clone();
    }
    claim
}

fn phases(api: &Api, volume: &str, claim: &str) -> (String, String) {
    let phase = |object: Value| object["status"]["phase"].as_str().unwrap_or("gone").to_owned();
    (
        phase(api.get(VOLUMES, "", volume)),
        phase(api.get(CLAIMS, "n", claim)),
    )
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[test]
fn both_name_each_other_and_say_so() {
    let mut api = Api::default();
    api.put(VOLUMES, volume("v", json!({})));
    api.settle();
    assert_eq!(phases(&api, "v", "c"), pair("Available", "gone"));
    api.put(CLAIMS, claim("c", json!({})));
    api.put(CLAIMS, claim("d", json!({})));
    let notes = api.settle();
    assert_eq!(phases(&api, "v", "c"), pair("Bound", "Bound"));
    assert_eq!(phases(&api, "v", "d").1, "Pending");
    assert!(notes.contains(&"FailedBinding"));
    let bound = api.get(CLAIMS, "n", "c");
    assert_eq!(bound["spec"]["volumeName"], "v");
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    assert_eq!(bound["metadata"]["finalizers"][0], "kubernetes.io/pvc-protection");
    assert_eq!(
        api.get(VOLUMES, "", "v")["spec"]["claimRef"]["uid"],
        bound["metadata"]["uid"]
    );
}

#[test]
fn a_volume_is_released_by_its_claim_and_a_claim_lost_with_its_volume() {
    let mut api = Api::default();
    for (name, policy) in [("kept", "Retain"), ("undeletable", "Delete")] {
        api.put(
            VOLUMES,
            volume(name, json!({"persistentVolumeReclaimPolicy": policy})),
        );
        api.put(CLAIMS, claim(name, json!({"volumeName": name})));
    }
    api.settle();
    assert_eq!(phases(&api, "kept", "kept"), pair("Bound", "Bound"));
    for name in ["kept", "undeletable"] {
        let mut going = api.get(CLAIMS, "n", name);
        going["metadata"]["deletionTimestamp"] = "t".into();
        api.put(CLAIMS, going);
    }
    let notes = api.settle();
    assert_eq!(phases(&api, "kept", "kept"), pair("Released", "gone"));
    assert_eq!(phases(&api, "undeletable", "undeletable"), pair("Failed", "gone"));
    assert!(notes.contains(&"VolumeFailedDelete"));

    api.put(VOLUMES, volume("v", json!({})));
    api.put(CLAIMS, claim("c", json!({})));
    api.settle();
    api.world.volumes.remove(&ObjectKey::new("", "v"));
    assert!(api.settle().contains(&"ClaimLost"));
    assert_eq!(phases(&api, "v", "c").1, "Lost");
}

fn pod(name: &str, node: &str, volume: Value) -> Arc<k8s_openapi::api::core::v1::Pod> {
    let mut volume = volume;
    volume["name"] = "data".into();
    let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"nodeName": node, "containers": [], "volumes": [volume]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn a_used_claim_stays_until_no_pod_uses_it() {
    let mut api = Api::default();
    api.put(CLAIMS, claim("c", json!({})));
    let used = json!({"persistentVolumeClaim": {"claimName": "c"}});
    api.world.pods = vec![pod("p", "node", used)];
    api.settle();
    let mut going = api.get(CLAIMS, "n", "c");
    going["metadata"]["deletionTimestamp"] = "t".into();
    api.put(CLAIMS, going);
    api.settle();
    assert!(api.get(CLAIMS, "n", "c").is_object(), "it is used");
    api.world.pods.clear();
    api.settle();
    assert!(api.get(CLAIMS, "n", "c").is_null());
}

#[test]
fn claims_that_wait_are_left_to_the_scheduler_and_the_provisioner() {
    let mut api = Api::default();
    api.put(
        CLASSES,
        json!({"metadata": {"name": "late"}, "provisioner": "d", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    api.put(VOLUMES, volume("v", json!({"storageClassName": "late"})));
    api.put(CLAIMS, claim("c", json!({"storageClassName": "late"})));
    assert!(api.settle().contains(&"WaitForFirstConsumer"));
    assert_eq!(phases(&api, "v", "c"), pair("Available", "Pending"));
    let mut chosen = api.get(CLAIMS, "n", "c");
    chosen["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "node".into();
    chosen["spec"]["resources"]["requests"]["storage"] = "5Gi".into();
    api.put(CLAIMS, chosen);
    assert!(api.settle().contains(&"ExternalProvisioning"));
    let asked = api.get(CLAIMS, "n", "c");
    assert_eq!(
        asked["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"],
        "d"
    );
}

#[test]
fn a_claim_without_a_class_gets_the_default_one() {
    let mut api = Api::default();
    let class = json!({"metadata": {"name": "usual", "annotations":
        {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "d"});
    api.put(CLASSES, class);
    let mut plain = claim("c", json!({}));
    plain["spec"].as_object_mut().unwrap().remove("storageClassName");
    api.put(CLAIMS, plain);
    api.settle();
    assert_eq!(api.get(CLAIMS, "n", "c")["spec"]["storageClassName"], "usual");
}

#[test]
fn pods_bring_claims_of_their_own() {
    let mut api = Api::default();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
    api.world.pods = vec![pod(
        "p",
        "",
        json!({"ephemeral": {"volumeClaimTemplate": template}}),
    )];
    api.settle();
    let made = api.get(CLAIMS, "n", "p-data");
    assert_eq!(
        (&made["metadata"]["labels"]["a"], &made["spec"]["accessModes"][0]),
        (&json!("b"), &json!("ReadWriteOnce"))
    );
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "p");
}

#[test]
fn attachments_follow_pods() {
    let mut api = Api::default();
    let source = json!({"driver": "d", "volumeHandle": "h"});
    let mut disk = volume("v", json!({"csi": source}));
    disk["spec"].as_object_mut().unwrap().remove("hostPath");
    api.put(VOLUMES, disk);
    api.put(CLAIMS, claim("c", json!({"volumeName": "v"})));
    let used = json!({"persistentVolumeClaim": {"claimName": "c"}});
    api.world.pods = vec![pod("p", "node", used)];
    let node = json!({"metadata": {"name": "node"}, "status": {"volumesInUse": ["kubernetes.io/csi/d^h"]}});
    api.world.nodes = vec![Arc::new(serde_json::from_value(node).unwrap())];
    api.settle();
    let attachments = api.world.attachments.clone();
    assert_eq!(attachments.len(), 1);
    let (key, attachment) = attachments.into_iter().next().unwrap();
    // sha256 of "hdnode", as kubelets name it.
    assert_eq!(
        key.name,
        "csi-c42cf57099d6443b605c16f111056170d3d4e01cedcbcbac71a93245953703cf"
    );
    let mut done = attachment.as_ref().clone();
    done["status"] = json!({"attached": true});
    api.put(ATTACHMENTS, done);
    let told = attach::plan(&api.world);
    assert_eq!(
        told.writes[0].object["status"]["volumesAttached"][0]["name"],
        "kubernetes.io/csi/d^h"
    );
    api.world.pods.clear();
    api.settle();
    assert_eq!(api.world.attachments.len(), 1, "the node still uses it");
    api.world.nodes.clear();
    api.settle();
    assert!(api.world.attachments.is_empty());

    api.put(
        DRIVERS,
        json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false}}),
    );
    api.world.pods = vec![pod(
        "p",
        "node",
        json!({"persistentVolumeClaim": {"claimName": "c"}}),
    )];
    api.settle();
    assert!(api.world.attachments.is_empty(), "the driver attaches nothing");
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn one_thing_happens(api: &mut Api, dice: &mut Dice) {
    let name = format!("o{}", dice.next(4));
    let going = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["deletionTimestamp"] = "t".into();
        object
    };
    match dice.next(6) {
        0 if api.get(VOLUMES, "", &name).is_null() => {
            let size = ["1Gi", "2Gi"][dice.next(2) as usize];
            api.put(VOLUMES, volume(&name, json!({"capacity": {"storage": size}})));
        }
        1 if api.get(CLAIMS, "n", &name).is_null() => {
            let wish = if dice.next(3) == 0 {
                json!({"volumeName": name})
            } else {
                json!({})
            };
            api.put(CLAIMS, claim(&name, wish));
        }
        2 if api.get(CLAIMS, "n", &name).is_object() => api.put(CLAIMS, going(&api.get(CLAIMS, "n", &name))),
        3 if api.get(VOLUMES, "", &name).is_object() => api.put(VOLUMES, going(&api.get(VOLUMES, "", &name))),
        4 => api.world.pods.push(pod(
            &name,
            "node",
            json!({"persistentVolumeClaim": {"claimName": name}}),
        )),
        _ => api
            .world
            .pods
            .retain(|pod| pod.metadata.name.as_deref() != Some(&name)),
    }
}

/// Whatever happens in whatever order, they come to rest, and then every bound claim has a volume of its own that names
/// it, and nothing used has gone.
#[test]
fn any_history_comes_to_rest_with_pairs() {
    for seed in 0..300 {
        let (mut api, mut dice) = (Api::default(), Dice(seed));
        for _ in 0..40 {
            one_thing_happens(&mut api, &mut dice);
            if dice.next(3) == 0 {
                // Something happens before all is done.
                let half = bind::plan(&api.world);
                api.write(&half);
            } else {
                api.settle();
            }
        }
        api.settle();
        for claim in api
            .world
            .claims
            .values()
            .filter(|claim| claim["status"]["phase"] == "Bound")
        {
            let volume = claim["spec"]["volumeName"].as_str().unwrap();
            let kept = &api.get(VOLUMES, "", volume)["spec"]["claimRef"]["uid"];
            assert_eq!(*kept, claim["metadata"]["uid"], "seed {seed}: {claim}");
        }
        for volume in api
            .world
            .volumes
            .values()
            .filter(|volume| volume["status"]["phase"] == "Bound")
        {
            let kept = &volume["spec"]["claimRef"];
            let claim = api.get(CLAIMS, "n", kept["name"].as_str().unwrap());
            assert_eq!(
                claim["spec"]["volumeName"], volume["metadata"]["name"],
                "seed {seed}: {volume}"
            );
        }
    }
}
