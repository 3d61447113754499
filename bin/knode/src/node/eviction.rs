//! `--eviction-hard`: when memory and disk count as scarce, in the kubelet's words.

use knode_kubelet_node::Thresholds;

/// Reads `memory.available<100Mi,nodefs.available<10%,…`; signals that are not named keep upstream's defaults.
///
/// # Errors
/// What can't be read, and what would be.
pub fn parse(text: &str) -> Result<Thresholds, String> {
    let mut thresholds = Thresholds::default();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (signal, value) = part
            .split_once('<')
            .ok_or_else(|| format!("{part:?} is not of the form SIGNAL<VALUE"))?;
        match signal {
            "memory.available" => thresholds.memory_available = bytes(value)?,
            "nodefs.available" => thresholds.nodefs_available = percentage(value)?,
            "nodefs.inodesFree" => thresholds.nodefs_inodes_free = percentage(value)?,
            "imagefs.available" => thresholds.imagefs_available = percentage(value)?,
            other => {
                return Err(format!(
                    "unsupported signal {other:?}; known: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available"
                ));
            }
        }
    }
    Ok(thresholds)
}

/// A percentage as a share.
fn percentage(value: &str) -> Result<f32, String> {
    let number = value.strip_suffix('%').and_then(|n| n.parse::<f32>().ok());
    number
        .filter(|n| (0.0..=100.0).contains(n))
        .map(|n| n / 100.0)
        .ok_or_else(|| format!("{value:?} is not a percentage such as 10%"))
}

fn bytes(value: &str) -> Result<u64, String> {
    let split = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(format!("{value:?} is not a size such as 100Mi")),
    };
    let number = number
        .parse::<u64>()
        .map_err(|_| format!("{value:?} is not a size such as 100Mi"))?;
    number
        .checked_shl(shift)
        .ok_or_else(|| format!("{value:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_signals_change_and_others_stay() {
        let got = parse("memory.available<1Gi,imagefs.available<1%").unwrap();
        let usual = Thresholds::default();
        assert_eq!(got.memory_available, 1 << 30);
        assert!((got.imagefs_available - 0.01).abs() < f32::EPSILON);
        assert!((got.nodefs_available - usual.nodefs_available).abs() < f32::EPSILON);
        assert!(parse("pid.available<5%").unwrap_err().contains("pid.available"));
        assert!(parse("nodefs.available<1Gi").unwrap_err().contains("percentage"));
        assert!(parse("nodefs.available").is_err());
    }
}
