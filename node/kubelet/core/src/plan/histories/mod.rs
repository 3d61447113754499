//! Histories: whatever happens in whatever order, the plan never says anything twice, never breaks the order of a pod's
//! life, and comes to rest where the pod should be once nothing more happens. A history that breaks a rule is shown
//! without the steps that it breaks it without.

mod checks;
mod machine;
mod steps;
mod world;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Stage, done_for_good, stage};
use crate::model::ContainerState;
use crate::pod::PodExt;
use crate::status::status;
use steps::{Dice, Step};
use world::World;

/// Histories thrown for each kind of pod.
const HISTORIES: u64 = 80;

/// A pod with probes, a policy about limits, and these init containers; names that begin with `side` are sidecars.
fn pod(policy: &str, inits: &[&str], extra: Value) -> Pod {
    let probe =
        |period: i32| json!({"exec": {"command": ["x"]}, "periodSeconds": period, "failureThreshold": 2});
    let init = |name: &&str| match name.strip_prefix("side") {
        Some("1") => json!({"name": name, "restartPolicy": "Always", "startupProbe": probe(5)}),
        Some(_) => json!({"name": name, "restartPolicy": "Always"}),
        None => json!({"name": name}),
    };
    let again = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let mut spec = json!({
        "restartPolicy": policy,
        "containers": [
            {"name": "a", "image": "i", "livenessProbe": probe(30), "readinessProbe": probe(60)},
            {"name": "b", "image": "i", "startupProbe": probe(20), "resizePolicy": again},
        ],
        "initContainers": inits.iter().map(init).collect::<Vec<Value>>(),
    });
    let own = extra.as_object().cloned().unwrap();
    spec.as_object_mut().unwrap().extend(own);
    let meta = json!({"name": "p", "namespace": "n", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

/// Goes through a history to its end.
fn live(pod: &Pod, steps: &[Step]) -> World {
    let mut world = World::new(pod.clone());
    for step in steps {
        world.step(step);
        if world.is_over() {
            break;
        }
    }
    if !world.is_over() {
        world.settle();
    }
    if world.fault.is_none() {
        check_rest(&mut world);
    }
    world
}

/// Where a pod is once nothing more happens.
fn check_rest(world: &mut World) {
    let left = !world.machine.containers.is_empty() || !world.machine.sandboxes.is_empty();
    if world.finished {
        if left {
            world.fault("something is left of a pod that is gone");
        }
        return;
    }
    if world.observed.removed || world.pod.is_deleted() {
        return world.fault("a pod that should go stays");
    }
    let running = world.machine.running().next().is_some();
    let ended = stage(&world.pod, &world.observed, world.now) == Stage::Ended;
    if ended {
        if running || !world.pod.is_terminal() || world.observed.released.is_none() {
            world.fault(format!("ended, but {running} {:?}", world.pod.status));
        }
        return;
    }
    if world.observed.evicted.is_some() {
        return world.fault("a pod that was evicted goes on");
    }
    if let Some(text) = not_as_it_should_be(world) {
        world.fault(text);
    }
    let now = status(&world.pod, &world.observed, &world::facts(), world.now);
    let told = world.pod.status.as_ref().map(|status| &status.container_statuses);
    if told != Some(&now.container_statuses) {
        world.fault("the API has an old status");
    }
}

/// What of a pod that goes on is not as it should be.
fn not_as_it_should_be(world: &World) -> Option<String> {
    let observed = &world.observed;
    let mains = world.pod.main_containers().iter();
    let sidecars = world
        .pod
        .init_containers()
        .iter()
        .filter(|one| one.restart_policy.is_some());
    for container in mains.chain(sidecars) {
        let Some(record) = observed.latest(&container.name) else {
            return Some(format!("{} was never started", container.name));
        };
        let policy = world.pod.policy_after(container, record.exit_code);
        if record.state != ContainerState::Running && done_for_good(policy, record) {
            continue;
        }
        if !world.runs(&record.id) {
            return Some(format!("{} does not run: {record:?}", container.name));
        }
        if record.hash != crate::spec::hash::container(container) {
            return Some(format!("{} runs with an old definition", container.name));
        }
        let probes = observed.probes.get(&record.id);
        if probes.is_some_and(|all| !all.ready() || all.failed().is_some()) {
            return Some(format!("{} is not ready", container.name));
        }
        let limits = container.resources.as_ref().and_then(|one| one.limits.as_ref());
        let applied = observed.applied.get(&record.id);
        if limits != applied.and_then(|one| one.limits.as_ref()) {
            return Some(format!("{} has other limits than it should", container.name));
        }
    }
    None
}

/// Fails with the shortest form of a history that breaks a rule.
#[track_caller]
fn holds(pod: &Pod, steps: &[Step], about: &str) -> World {
    let world = live(pod, steps);
    if world.fault.is_none() {
        return world;
    }
    let shortest = steps::shortened(steps.to_vec(), |steps| live(pod, steps).fault.is_some());
    let world = live(pod, &shortest);
    panic!(
        "{about}: {}\nafter {shortest:#?}\nlog: {:#?}",
        world.fault.unwrap_or_default(),
        world.log
    );
}

#[track_caller]
fn histories(pod: &Pod) {
    let mut ends = BTreeSet::new();
    for seed in 0..HISTORIES {
        let steps = steps::history(&mut Dice(seed));
        let world = holds(pod, &steps, &format!("seed {seed}"));
        ends.insert((world.finished, world.pod.is_terminal()));
    }
    let wanted = [(true, false), (false, false)];
    assert!(wanted.iter().all(|end| ends.contains(end)), "{ends:?}");
}

#[test]
fn any_history_of_a_pod_that_always_runs_converges() {
    histories(&pod("Always", &[], json!({})));
    histories(&pod("Always", &["one", "side1", "two", "side2"], json!({})));
}

#[test]
fn any_history_of_a_pod_that_runs_to_its_end_converges() {
    histories(&pod("OnFailure", &["one"], json!({})));
    histories(&pod("Never", &["side1", "side2"], json!({})));
}

#[test]
fn any_history_of_a_pod_with_a_deadline_or_rules_converges() {
    histories(&pod(
        "OnFailure",
        &["one", "side1"],
        json!({"activeDeadlineSeconds": 4000}),
    ));
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let own = json!({"name": "a", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rules});
    let containers = json!([own, {"name": "b", "image": "i"}]);
    histories(&pod("Always", &["one"], json!({"containers": containers})));
}

/// Any two things while a pod starts, and while it runs.
#[test]
fn every_short_history_converges() {
    let pod = pod("OnFailure", &["one", "side1"], json!({}));
    let done = Step::Land {
        pick: 0,
        fails: false,
    };
    let began = vec![done.clone(); 6];
    let mut runs = vec![done; 12];
    runs.insert(10, Step::Exit { pick: 0, code: 0 });
    runs.insert(11, Step::Hear { pick: 0 });
    let alphabet = steps::alphabet();
    for start in [began, runs] {
        let count = alphabet.len().pow(2);
        for number in 0..count {
            let mut rest = number;
            let mut steps = start.clone();
            for _ in 0..2 {
                steps.push(alphabet[rest % alphabet.len()].clone());
                rest /= alphabet.len();
            }
            holds(&pod, &steps, &format!("history {number}"));
        }
    }
}

#[test]
fn a_history_is_shortened_to_what_matters() {
    let steps: Vec<Step> = (0..100).map(Step::Pass).collect();
    let breaks = |steps: &[Step]| steps.contains(&Step::Pass(7)) && steps.contains(&Step::Pass(80));
    let shortest = steps::shortened(steps, breaks);
    assert_eq!(shortest, [Step::Pass(7), Step::Pass(80)]);
}
