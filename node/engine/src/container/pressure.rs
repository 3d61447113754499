//! How long processes of a control group had to wait (`Documentation/accounting/psi.rst`); version 2 alone has it.

use std::path::Path;

use knode_cri::{IoUsage, PsiData, PsiStats};

use crate::engine::Core;

impl Core {
    /// The pressure that `cpu.pressure` and the like of a group tell, `None` where the kernel keeps none.
    pub(crate) fn pressure(&self, group: &Path, controller: &str) -> Option<PsiStats> {
        if !self.machine.cgroup_v2 {
            return None;
        }
        let file = format!("{controller}.pressure");
        let path = self.cgroups.directory(controller, group).join(file);
        parse(&std::fs::read_to_string(path).ok()?)
    }

    /// As [`Core::pressure`], of input and output.
    pub(crate) fn io_usage(&self, group: &Path, timestamp: i64) -> Option<IoUsage> {
        let psi = Some(self.pressure(group, "io")?);
        Some(IoUsage { timestamp, psi })
    }
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`, and `full` likewise.
fn parse(text: &str) -> Option<PsiStats> {
    let of = |kind: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(kind))
            .and_then(data)
    };
    let (some, full) = (of("some "), of("full "));
    (some.is_some() || full.is_some()).then_some(PsiStats { full, some })
}

fn data(line: &str) -> Option<PsiData> {
    let of = |wanted: &str| {
        let mut pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value)
    };
    let average = |wanted: &str| of(wanted)?.parse().ok();
    Some(PsiData {
        total: of("total")?.parse::<u64>().ok()?.saturating_mul(1000),
        avg10: average("avg10")?,
        avg60: average("avg60")?,
        avg300: average("avg300")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.10 total=5\n";
        let found = parse(text).unwrap();
        let some = found.some.unwrap();
        assert_eq!(
            (some.total, some.avg10, some.avg60, some.avg300),
            (1_234_000, 1.5, 0.25, 0.0)
        );
        assert_eq!(found.full.unwrap().total, 5000);
        assert_eq!(parse("some avg10=x"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_kernels_own_pressure_is_read() {
        // The whole machine's: groups have it in version 2 alone.
        for file in ["/proc/pressure/memory", "/sys/fs/cgroup/unified/memory.pressure"] {
            if let Ok(text) = std::fs::read_to_string(file) {
                assert!(
                    parse(&text).is_some_and(|psi| psi.some.is_some() && psi.full.is_some()),
                    "{text}"
                );
            }
        }
    }
}
