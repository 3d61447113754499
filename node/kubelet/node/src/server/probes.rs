//! `/metrics/probes`: results of probes (upstream: `pkg/kubelet/prober`); pure.

use std::fmt::Write;

use crate::pods::ProbeCount;

const NAME: &str = "prober_probe_total";
const HELP: &str =
    "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];

pub(super) fn text(probes: &[ProbeCount]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {NAME} {HELP}\n# TYPE {NAME} counter");
    for one in probes {
        for (result, count) in RESULTS.iter().zip(one.results).filter(|(_, count)| *count > 0) {
            let _ = writeln!(
                out,
                "{NAME}{{container={:?},namespace={:?},pod={:?},pod_uid={:?},probe_type={:?},result={result:?}}} {count}",
                one.container, one.namespace, one.pod, one.uid, one.kind
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_never_came_is_not_there() {
        let one = ProbeCount {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            uid: "u".to_owned(),
            container: "c".to_owned(),
            kind: "Readiness",
            results: [7, 0, 1],
        };
        let text = text(&[one]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let labels = "container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\"";
        assert_eq!(
            lines,
            [
                format!("{NAME}{{{labels},result=\"successful\"}} 7"),
                format!("{NAME}{{{labels},result=\"unknown\"}} 1")
            ]
        );
    }
}
