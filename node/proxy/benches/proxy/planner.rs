//! Planner and netlink alone, in this process: what is spent between the model and the kernel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use knode_proxy::Applier;
use knode_proxy::model::{Model, Name};

use crate::objects::{self, Cluster, config, last_slice, service, set_slice};
use crate::report::{Report, shown};

const ROUNDS: u32 = 100;

/// Loads, takes over and changes.
pub fn measure(cluster: &Cluster, report: &mut Report) {
    let mut model = cluster.model();
    let mut applier = Applier::open(config()).expect("netlink");
    let (applied, took) = timed(|| applier.take_over(&model).expect("cold load"));
    report.note("model to kernel, cold", shown(took));
    report.note(
        "– bytes of that transaction",
        format!("{} KiB", applied.bytes / 1024),
    );
    let mut successor = Applier::open(config()).expect("netlink");
    let (taken, took) = timed(|| successor.take_over(&model).expect("take over"));
    assert!(!taken.repaired, "the table was right already");
    report.note("model to kernel, the same table there already", shown(took));
    endpoints(cluster, &mut model, &mut applier, report);
    services(cluster, &mut model, &mut applier, report);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

fn endpoints(cluster: &Cluster, model: &mut Model, applier: &mut Applier, report: &mut Report) {
    let all = last_slice(cluster.endpoints);
    let fewer = all.start..all.end - 1;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for endpoints in [fewer.clone(), all.clone()] {
            let dirty = set_slice(model, cluster.middle(), endpoints);
            times.push(update(model, applier, dirty));
        }
    }
    report.spread("model to kernel, an endpoint goes or comes: p50 / p99", times);
}

fn services(cluster: &Cluster, model: &mut Model, applier: &mut Applier, report: &mut Report) {
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    let numbers = cluster.services..cluster.services + ROUNDS;
    for number in numbers.clone() {
        let mut dirty = set_slice(model, number, 0..objects::ENDPOINTS);
        dirty.extend(model.set_service(&objects::name(number), Some(service(number))));
        come.push(update(model, applier, dirty));
    }
    for number in numbers {
        let dirty = model.set_service(&objects::name(number), None);
        gone.push(update(model, applier, dirty.into_iter().collect()));
    }
    report.spread(
        "model to kernel, a service with three endpoints comes: p50 / p99",
        come,
    );
    report.spread("model to kernel, a service goes: p50 / p99", gone);
}

fn update(model: &Model, applier: &mut Applier, dirty: Vec<Name>) -> Duration {
    let dirty: BTreeSet<Name> = dirty.into_iter().collect();
    let (applied, took) = timed(|| applier.update(model, dirty).expect("update"));
    assert!(applied.commands > 0, "nothing changed");
    took
}
