//! How long containers and pods have waited for processors, memory, and input and output, as the runtime tells of version 2
//! control groups; pure.

use jiff::Timestamp;
use knode_cri::{IoUsage, PsiData, PsiStats};
use serde_json::{Value, json};

/// What is not known is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::server) struct Pressures {
    pub(in crate::server) cpu: Option<PsiStats>,
    pub(in crate::server) memory: Option<PsiStats>,
    pub(in crate::server) io: Option<PsiStats>,
}

impl Pressures {
    pub(super) fn new(cpu: Option<PsiStats>, memory: Option<PsiStats>, io: Option<IoUsage>) -> Self {
        Self {
            cpu,
            memory,
            io: io.and_then(|io| io.psi),
        }
    }

    /// Puts them into the statistics of a container or pod, which have `cpu` and `memory` (upstream: `PSIStats`).
    pub(super) fn put_into(&self, value: &mut Value, at: &str) {
        for (part, psi) in [("cpu", self.cpu), ("memory", self.memory)] {
            if let Some(psi) = psi {
                value[part]["psi"] = of(psi);
            }
        }
        if let Some(psi) = self.io {
            value["io"] = json!({"time": at, "psi": of(psi)});
        }
    }
}

fn of(psi: PsiStats) -> Value {
    let data = |data: Option<PsiData>| {
        let data = data.unwrap_or_default();
        json!({"total": data.total, "avg10": data.avg10, "avg60": data.avg60, "avg300": data.avg300})
    };
    json!({"full": data(psi.full), "some": data(psi.some)})
}

/// Seconds in which no task went on.
pub(super) fn stalled(psi: Option<PsiStats>) -> Option<f64> {
    Some(super::text::seconds(psi?.full?.total))
}

/// Seconds in which some task waited.
pub(super) fn waiting(psi: Option<PsiStats>) -> Option<f64> {
    Some(super::text::seconds(psi?.some?.total))
}

/// The second of a time, as the summary has it.
pub(super) fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psi(full: u64, some: u64) -> PsiStats {
        let data = |total| {
            Some(PsiData {
                total,
                avg10: 1.5,
                ..Default::default()
            })
        };
        PsiStats {
            full: data(full),
            some: data(some),
        }
    }

    #[test]
    fn what_is_known_is_told() {
        let io = IoUsage {
            timestamp: 1,
            psi: Some(psi(5, 6)),
        };
        let pressures = Pressures::new(Some(psi(2_000_000_000, 3)), None, Some(io));
        let mut value = json!({"cpu": {}, "memory": {}});
        pressures.put_into(&mut value, "now");
        assert_eq!(value["cpu"]["psi"]["full"]["total"], 2_000_000_000u64);
        assert_eq!(value["cpu"]["psi"]["some"]["avg10"], 1.5);
        assert_eq!(value["memory"], json!({}));
        assert_eq!(
            (&value["io"]["time"], &value["io"]["psi"]["some"]["total"]),
            (&json!("now"), &json!(6))
        );
        assert_eq!(stalled(pressures.cpu), Some(2.0));
        assert_eq!(waiting(pressures.memory), None);
        let mut nothing = json!({"cpu": {}});
        Pressures::default().put_into(&mut nothing, "now");
        assert_eq!(nothing, json!({"cpu": {}}));
    }
}
