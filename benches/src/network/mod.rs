//! The pod network between two hosts: throughput and latency beside a bare cable and a hand-made vxlan, in one run.

mod flannel;
mod pair;
mod probe;

use std::path::Path;

use anyhow::Context;

use crate::report::{Figure, percentile, table};
use flannel::Flannel;
use pair::{Pair, Way};

/// Each way is measured this often, in turns, so that all see the same machine.
const ROUNDS: usize = 5;

/// What was measured of one way.
#[derive(Default)]
struct Samples {
    gbits: Vec<f64>,
    micros: Vec<f64>,
}

/// Measures everything and prints the table.
pub fn all(binary: &Path) -> anyhow::Result<()> {
    let bare = Pair::new("bare");
    let by_hand = Pair::new("byhand");
    let vxlan = Flannel::start(binary, Pair::new("vxlan"), r#"{"Type":"vxlan"}"#)?;
    let host_gw = Flannel::start(binary, Pair::new("hostgw"), r#"{"Type":"host-gw"}"#)?;
    let ways = [
        ("plain veth, host → host", bare.way()),
        ("hand-made vxlan, host → host", by_hand.vxlan_by_hand()),
        ("knode vxlan, host → host", vxlan.hosts()?),
        ("knode vxlan, pod → pod", vxlan.pods()),
        ("knode host-gw, pod → pod", host_gw.pods()),
    ];
    let samples = rounds(&ways)?;
    let mut figures = start_up(&vxlan, &host_gw);
    figures.extend(compared(&ways, &samples));
    print!("{}", table(&figures));
    Ok(())
}

fn rounds(ways: &[(&str, Way)]) -> anyhow::Result<Vec<Samples>> {
    let mut samples: Vec<Samples> = ways.iter().map(|_| Samples::default()).collect();
    for _ in 0..ROUNDS {
        for ((what, way), seen) in ways.iter().zip(&mut samples) {
            seen.gbits
                .push(probe::throughput(way).with_context(|| format!("iperf3: {what}"))?);
            seen.micros
                .push(probe::latency(way).with_context(|| format!("ping: {what}"))?);
        }
    }
    Ok(samples)
}

fn start_up(vxlan: &Flannel, host_gw: &Flannel) -> Vec<Figure> {
    let mut times: Vec<f64> = vxlan.starts.iter().chain(&host_gw.starts).copied().collect();
    times.sort_by(f64::total_cmp);
    let slowest = times.last().copied().unwrap_or(f64::NAN);
    let text = format!("{:.0} / {slowest:.0} ms", percentile(&times, 50));
    vec![Figure::new(
        "flanneld: start → subnet.env (etcd), median / slowest of 4",
        text,
        "≤ 50 ms",
    )]
}

/// One line a way: the median, and how it stands to the first way, the bare cable.
fn compared(ways: &[(&str, Way)], samples: &[Samples]) -> Vec<Figure> {
    let targets = ["1", "–", "–", "≥ 0.74 of veth", "≥ 0.87 of veth"];
    let base = samples.first().map_or(f64::NAN, |s| median(&s.gbits));
    let line = |(((what, _), seen), target): (((&&str, &Way), &Samples), &&'static str)| {
        let (gbits, micros) = (median(&seen.gbits), median(&seen.micros));
        let text = format!(
            "{gbits:.1} Gbit/s = {:.2} of veth; ping {micros:.0} µs",
            gbits / base
        );
        Figure::new(*what, text, target)
    };
    let named = ways.iter().map(|(what, way)| (what, way));
    named.zip(samples).zip(&targets).map(line).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50)
}
