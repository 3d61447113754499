//! A pod's bandwidth annotations (`k8s.io/kubernetes/pkg/util/bandwidth/utils.go`).

use std::collections::BTreeMap;

use knode_api::quantity::Quantity;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// What upstream takes: 1 kbit/s to 1 Pbit/s.
const SENSIBLE: std::ops::RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;

/// How fast a pod may receive and send, bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// What it receives.
    pub ingress: Option<u64>,
    /// What it sends.
    pub egress: Option<u64>,
}

/// Why an annotation is no bandwidth.
#[derive(Debug, thiserror::Error)]
#[error("annotation {annotation}: {value:?} is not a bandwidth from 1k to 1P bits a second")]
pub struct RateError {
    annotation: &'static str,
    value: String,
}

/// Reads the limits of a pod; none is set where it has no annotations.
///
/// # Errors
/// [`RateError`] for what is not a quantity, or not a sensible one.
pub fn rates(annotations: &BTreeMap<String, String>) -> Result<Rates, RateError> {
    let limit = |annotation: &'static str| {
        let Some(value) = annotations.get(annotation) else {
            return Ok(None);
        };
        let bits = Quantity::parse(value).ok().map(|q| q.value());
        let bits = bits
            .filter(|bits| SENSIBLE.contains(bits))
            .and_then(|bits| u64::try_from(bits).ok());
        let wrong = || RateError {
            annotation,
            value: value.clone(),
        };
        bits.map(Some).ok_or_else(wrong)
    };
    Ok(Rates {
        ingress: limit(INGRESS)?,
        egress: limit(EGRESS)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Rates, RateError> {
        rates(
            &pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn annotations_are_quantities_of_bits() {
        assert_eq!(of(&[("else", "10M")]).unwrap(), Rates::default());
        let both = of(&[(INGRESS, "10M"), (EGRESS, "1Gi")]).unwrap();
        let expected = Rates {
            ingress: Some(10_000_000),
            egress: Some(1 << 30),
        };
        assert_eq!(both, expected);
    }

    #[test]
    fn what_limits_nothing_sensible_is_refused() {
        for value in ["fast", "", "999", "2P", "-1M"] {
            let refused = of(&[(EGRESS, value)]).unwrap_err().to_string();
            assert!(refused.contains(EGRESS) && refused.contains(value), "{refused}");
        }
    }
}
