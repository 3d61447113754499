use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn container(probes: serde_json::Value) -> Container {
    let mut container = json!({"name": "c"});
    container
        .as_object_mut()
        .unwrap()
        .extend(probes.as_object().cloned().unwrap());
    serde_json::from_value(container).unwrap()
}

fn run(probes: &mut Probes, container: &Container, kind: ProbeKind, outcome: ProbeOutcome, now: i64) {
    let probe = kind.of(container).unwrap();
    probes.track(kind).unwrap().step(probe, &outcome, at(now));
}

fn failure() -> ProbeOutcome {
    ProbeOutcome::Failure("no".into())
}

#[test]
fn the_startup_probe_holds_back_the_others() {
    let c =
        container(json!({"startupProbe": {"periodSeconds": 1}, "livenessProbe": {}, "readinessProbe": {}}));
    let mut probes = Probes::new(&c, at(0), at(0), false, false);
    assert_eq!(probes.due(), [(ProbeKind::Startup, at(0))]);
    assert!(!probes.started() && !probes.ready());
    run(&mut probes, &c, ProbeKind::Startup, ProbeOutcome::Success, 0);
    assert!(probes.started() && !probes.ready());
    assert_eq!(
        probes.due(),
        [(ProbeKind::Liveness, at(0)), (ProbeKind::Readiness, at(0))]
    );
}

#[test]
fn liveness_fails_after_its_threshold_in_a_row() {
    let c = container(json!({"livenessProbe": {"failureThreshold": 2, "periodSeconds": 2}}));
    let mut probes = Probes::new(&c, at(0), at(0), false, false);
    assert!(
        probes.ready(),
        "without a readiness probe a container that runs is ready"
    );
    run(&mut probes, &c, ProbeKind::Liveness, failure(), 0);
    run(&mut probes, &c, ProbeKind::Liveness, ProbeOutcome::Success, 2);
    run(&mut probes, &c, ProbeKind::Liveness, failure(), 4);
    assert_eq!(probes.failed(), None);
    run(&mut probes, &c, ProbeKind::Liveness, failure(), 6);
    assert_eq!(probes.failed(), Some(ProbeKind::Liveness));
    assert!(probes.due().is_empty(), "a failed container is not probed on");
}

#[test]
fn what_could_not_be_run_counts_for_nothing() {
    let c = container(json!({"readinessProbe": {"failureThreshold": 1, "periodSeconds": 3}}));
    let mut probes = Probes::new(&c, at(0), at(0), true, true);
    assert!(probes.ready(), "what the API knew of this container is kept");
    run(
        &mut probes,
        &c,
        ProbeKind::Readiness,
        ProbeOutcome::Unknown("?".into()),
        1,
    );
    assert!(probes.ready());
    assert_eq!(probes.due(), [(ProbeKind::Readiness, at(3))]);
    run(&mut probes, &c, ProbeKind::Readiness, failure(), 8);
    assert!(!probes.ready());
    assert_eq!(
        probes.due(),
        [(ProbeKind::Readiness, at(9))],
        "ticks keep their rhythm"
    );
}

#[test]
fn the_first_run_waits_for_the_initial_delay() {
    let c = container(json!({"readinessProbe": {"initialDelaySeconds": 5}}));
    let probes = Probes::new(&c, at(10), at(11), false, false);
    assert_eq!(probes.due(), [(ProbeKind::Readiness, at(15))]);
    let late = Probes::new(&c, at(10), at(100), false, false);
    assert_eq!(late.due(), [(ProbeKind::Readiness, at(100))]);
}
