//! The API server away, and the kubelet killed: pods go on as if nothing were, and what happened meanwhile is told
//! once and without a storm. Over the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::fs;

use knode_e2e::{BOUND, Containerd, Site, ready};
use knode_testkit::{image, wait_until};
use serde_json::Value;

/// Requests to write a status after the outage that a pod which was restarted may cost.
const WRITES: u64 = 4;

const PODS: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: known}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'while true; do cat /secret/word /var/run/secrets/kubernetes.io/serviceaccount/token > /shared/read || echo gone >> /shared/lost; usleep 200000; done']
    readinessProbe: {exec: {command: [sh, -c, 'echo r >> /shared/ready']}, periodSeconds: 1}
    livenessProbe: {exec: {command: [sh, -c, 'echo l >> /shared/live']}, periodSeconds: 1}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: secret, mountPath: /secret}
  volumes:
  - {name: shared, hostPath: {path: SHARED}}
  - {name: secret, secret: {secretName: known}}
---
apiVersion: v1
kind: Pod
metadata: {name: restarts}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo $WORD >> /shared/starts; while [ ! -e /shared/end ]; do usleep 100000; done; rm /shared/end; exit 3']
    env: [{name: WORD, valueFrom: {secretKeyRef: {name: known, key: word}}}]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
  - {name: shared, hostPath: {path: SHARED}}
";

const OWN: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo WHAT > /shared/own; exec sleep 3600']
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
  - {name: shared, hostPath: {path: SHARED}}
";

/// One machine whose control plane and node are processes of their own.
struct Bed {
    site: Site,
    containerd: Option<Containerd>,
    options: Vec<String>,
}

impl Bed {
    fn new(name: &str, over_containerd: bool) -> Self {
        let mut site = Site::new(name, 1);
        for directory in ["shared", "manifests"] {
            fs::create_dir_all(site.path(directory)).unwrap();
        }
        let mut options = vec![format!("--pod-manifest-path={}", site.path("manifests"))];
        let containerd = over_containerd.then(|| Containerd::start(&site.hosts[0], &site.scratch, None));
        if let Some(containerd) = &containerd {
            options.push(format!("--container-runtime-endpoint={}", containerd.endpoint()));
            let archive = site.scratch.join("busybox.tar");
            image::busybox().name("busybox:test").build().write_oci(&archive);
            containerd.import(&site.hosts[0], &archive);
        }
        site.server(&[]);
        let mut bed = Self {
            site,
            containerd,
            options,
        };
        bed.start_node();
        bed.site.all_ready(&["nodes"], 1);
        bed
    }

    fn start_node(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.site.node("node1", 0, &options);
    }

    fn apply(&self, manifest: &str) {
        self.site
            .apply(&manifest.replace("SHARED", &self.site.path("shared")));
    }

    fn own(&self, what: &str) {
        let text = OWN
            .replace("SHARED", &self.site.path("shared"))
            .replace("WHAT", what);
        let (made, there) = (self.site.path("own.new"), self.site.path("manifests/own.yaml"));
        fs::write(&made, text).unwrap();
        fs::rename(&made, &there).unwrap();
    }

    /// What containers have written.
    fn shared(&self, name: &str) -> String {
        fs::read_to_string(format!("{}/{name}", self.site.path("shared"))).unwrap_or_default()
    }

    fn pod(&self, name: &str) -> Value {
        self.site.json(&["pod", name]).unwrap()
    }

    /// Lets the container that restarts end, and waits for its next start.
    fn restart_one(&self) {
        let before = self.shared("starts").lines().count();
        fs::write(format!("{}/end", self.site.path("shared")), "").unwrap();
        wait_until("the next start", BOUND, || {
            let now = self.shared("starts").lines().count();
            if now > before {
                Ok(())
            } else {
                Err(format!("{now} starts\n{}", self.site.log("node1")))
            }
        });
    }

    /// Waits until each probe has run that often again, and the files were read anew.
    fn probes_go_on(&self, times: usize) {
        let counts = || ["ready", "live"].map(|name| self.shared(name).lines().count());
        let before = counts();
        fs::remove_file(format!("{}/read", self.site.path("shared"))).unwrap();
        wait_until("probes", BOUND, || {
            let now = counts();
            let all = now.iter().zip(before).all(|(now, before)| *now >= before + times);
            let read = self.shared("read");
            if all && read.starts_with("swordfish") && read.len() > 100 {
                Ok(())
            } else {
                Err(format!("{now:?} after {before:?}, {} bytes read", read.len()))
            }
        });
        assert_eq!(self.shared("lost"), "", "token or secret was away");
    }

    /// Ends everything, pods first, while their runtime is there.
    fn end(mut self) {
        self.site.end("node1");
        self.site.end("server");
        drop(self.containerd.take());
    }
}

fn version(pod: &Value) -> String {
    pod["metadata"]["resourceVersion"].to_string()
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or_default()
}

/// Requests that the API server has answered since it began, by verb.
fn requests(site: &Site) -> BTreeMap<String, u64> {
    let page = site.kubectl(&["get", "--raw", "/metrics"]).ok();
    let mut all = BTreeMap::new();
    for line in page
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
    {
        let verb = line
            .split("verb=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        *all.entry(verb.unwrap().to_owned()).or_default() += count.unwrap();
    }
    all
}

fn goes_on(name: &str, over_containerd: bool) {
    let mut bed = Bed::new(name, over_containerd);
    bed.own("first");
    bed.apply(PODS);
    bed.site.all_ready(&["pods"], 3);
    wait_until("the first start", BOUND, || !bed.shared("starts").is_empty());
    without_an_api_server(&mut bed);
    without_a_kubelet(&mut bed);
    killed_at_work(&mut bed);
    bed.end();
}

fn without_an_api_server(bed: &mut Bed) {
    let before = bed.pod("steady");
    bed.site.kill("server");
    bed.probes_go_on(3);
    bed.restart_one();
    assert_eq!(
        bed.shared("starts"),
        "swordfish\nswordfish\n",
        "the secret is known"
    );
    bed.own("second");
    wait_until("the changed static pod", BOUND, || {
        match bed.shared("own").as_str() {
            "second\n" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    bed.probes_go_on(2);
    bed.site.server(&[]);
    wait_until("the status to be caught up", BOUND, || {
        let pod = bed.site.json(&["pod", "restarts"])?;
        let own = bed.site.json(&["pod", "own-node1"])?;
        // Until the kubelet has looked, the mirror is that of before.
        let changed = own["spec"].to_string().contains("second");
        if restarts(&pod) == 1 && ready(&pod) && changed && ready(&own) {
            Ok(())
        } else {
            Err(format!("{}\n{own}", pod["status"]))
        }
    });
    // Events are tried again every ten seconds: that once is enough.
    if bed.containerd.is_none() {
        events_are_told(&bed.site);
    }
    let asked = requests(&bed.site);
    let patches = asked.get("PATCH").copied().unwrap_or_default();
    // Two pods and the node have news; events that repeat are patched too.
    assert!(patches <= 4 * WRITES, "{asked:?}");
    let after = bed.pod("steady");
    assert_eq!(
        version(&before),
        version(&after),
        "what did not change was written"
    );
}

/// Nothing of what happened meanwhile is lost.
fn events_are_told(site: &Site) {
    wait_until("the events of the outage", BOUND, || {
        let field = "--field-selector=involvedObject.name=restarts,reason=Started";
        let events = site.json(&["events", field])?;
        let count = |event: &Value| event["count"].as_u64().unwrap_or(1);
        let all: u64 = events["items"].as_array().into_iter().flatten().map(count).sum();
        if all >= 2 { Ok(()) } else { Err(events.to_string()) }
    });
}

/// Nothing is restarted and nothing written: so no condition has flipped, not even for a moment.
fn without_a_kubelet(bed: &mut Bed) {
    let names = ["steady", "restarts", "own-node1"];
    let before = names.map(|name| bed.pod(name));
    let starts = bed.shared("starts");
    bed.site.kill("node1");
    bed.start_node();
    bed.probes_go_on(2);
    // A pod that is Ready only now shows that the kubelet has looked at all of them.
    bed.apply(&one("later"));
    bed.site
        .all_ready(&["pods", "--field-selector=metadata.name=later"], 1);
    for (name, before) in names.iter().zip(before) {
        let after = bed.pod(name);
        assert_eq!(
            version(&before),
            version(&after),
            "{name} was written: {}",
            after["status"]
        );
    }
    assert_eq!(bed.shared("starts"), starts);
}

fn one(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{group: few}}}}\nspec:\n  nodeName: node1\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: 'busybox:test', imagePullPolicy: Never, \
         command: [sh, -c, 'trap exit TERM; sleep 3600 & wait'], volumeMounts: [{{name: v, mountPath: /v}}]}}\n  \
         volumes: [{{name: v, emptyDir: {{medium: Memory}}}}]\n---\n"
    )
}

/// Killed while pods come and go, again and again: in the end those that should run do, and of the others nothing is
/// left.
fn killed_at_work(bed: &mut Bed) {
    let few = |round: u32| (0..4).map(|n| format!("few-{round}-{n}")).collect::<Vec<_>>();
    for round in 0..2 {
        bed.apply(&few(round).iter().map(|name| one(name)).collect::<String>());
        if round > 0 {
            let old = few(round - 1);
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            bed.site
                .kubectl(&[&["delete", "pod", "--wait=false"], &old[..]].concat())
                .ok();
        }
        bed.site.kill("node1");
        bed.start_node();
    }
    let group = ["pods", "-l", "group=few"];
    let pods = bed.site.all_ready(&group, 5);
    let uids: Vec<&str> = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["uid"].as_str())
        .collect();
    for pod in &pods {
        // One that was made, and not yet started when its kubelet died, is made anew, and counts as upstream's does.
        assert!(restarts(pod) <= 1, "{}", pod["status"]);
    }
    let directory = format!("{}/kubelet/pods", bed.site.path("node1"));
    wait_until("directories of deleted pods to go", BOUND, || {
        let entries = fs::read_dir(&directory).unwrap().flatten();
        let names: Vec<String> = entries
            .map(|one| one.file_name().to_string_lossy().into_owned())
            .collect();
        // Beside them the two pods with probes and restarts, and the static one.
        let known = names.iter().filter(|name| uids.contains(&name.as_str())).count();
        if known == uids.len() && names.len() == uids.len() + 3 {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
}

#[test]
fn pods_go_on_without_api_server_and_kubelet() {
    goes_on("outage", false);
}

#[test]
fn the_same_over_containerd() {
    goes_on("outage-cd", true);
}
