//! When something counts as scarce.

use std::time::Duration;

use knode_api::quantity::{Format, Quantity};
use knode_api::time::parse_duration;

use super::signal::{Signal, UnknownSignal};

/// A quantity, or a share of what there is in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes, or a number of things.
    Quantity(u64),
    /// The same written without binary units, as which it is told again: `100M`, `10000`.
    Decimal(u64),
    /// From 0 to 1.
    Share(f32),
}

/// A limit below which something is scarce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What is measured.
    pub signal: Signal,
    /// Below this it is scarce.
    pub value: Amount,
    /// How long it must be so before pods are ended; none: at once, and without leaving them their time.
    pub grace: Option<Duration>,
    /// How much more than the limit must be free again, once it was met.
    pub min_reclaim: Option<Amount>,
}

/// What the node does about scarcity.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionConfig {
    /// All limits.
    pub thresholds: Vec<Threshold>,
    /// Seconds that a pod ended for a limit with grace may take, at most; 0 leaves it its own.
    pub max_pod_grace: i64,
    /// How long a pressure must be gone before it is reported gone.
    pub transition: Duration,
    /// Pause between two looks.
    pub interval: Duration,
}

/// A text that configures no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// It names no signal.
    #[error(transparent)]
    Signal(#[from] UnknownSignal),
    /// It is not of the right form.
    #[error("{0:?} is not of the form SIGNAL{1}VALUE")]
    Form(String, char),
    /// The value is neither a quantity nor a percentage.
    #[error("{0:?} is neither a size such as 100Mi nor a percentage such as 10%")]
    Value(String),
    /// Not a duration.
    #[error("{0:?} is not a duration such as 1m30s")]
    Duration(String),
    /// A limit with grace needs to be told how long.
    #[error("{0} has a soft threshold and no grace period")]
    NoGrace(Signal),
    /// A grace period without a limit.
    #[error("{0} has a grace period and no soft threshold")]
    NoSoft(Signal),
}

impl Amount {
    /// The quantity that this is of a whole, rounded as upstream's float arithmetic does it.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Quantity(quantity) | Self::Decimal(quantity) => quantity,
            Self::Share(share) => (capacity as f64 * f64::from(share)) as u64,
        }
    }

    /// As Go prints what this is of a whole: a share is always told in binary units.
    pub(super) fn printed(self, capacity: u64) -> String {
        let format = match self {
            Self::Decimal(_) => Format::DecimalSi,
            Self::Quantity(_) | Self::Share(_) => Format::BinarySi,
        };
        printed(self.of(capacity), format)
    }

    /// Reads `100Mi` or `10%`.
    ///
    /// # Errors
    /// [`ThresholdError::Value`].
    pub fn parse(text: &str) -> Result<Self, ThresholdError> {
        let wrong = || ThresholdError::Value(text.to_owned());
        if let Some(percentage) = text.strip_suffix('%') {
            let number = percentage.parse::<f32>().ok();
            let number = number.filter(|number| (0.0..=100.0).contains(number));
            return number.map(|number| Self::Share(number / 100.0)).ok_or_else(wrong);
        }
        let quantity = Quantity::parse(text).map_err(|_| wrong())?;
        let kind = if text.ends_with('i') {
            Self::Quantity
        } else {
            Self::Decimal
        };
        u64::try_from(quantity.value()).map(kind).map_err(|_| wrong())
    }
}

/// As Go prints a quantity.
pub(super) fn printed(value: u64, format: Format) -> String {
    Quantity::from_int(i64::try_from(value).unwrap_or(i64::MAX), format).to_string()
}

impl Threshold {
    /// A limit that is acted upon at once.
    pub fn hard(signal: Signal, value: Amount) -> Self {
        Self {
            signal,
            value,
            grace: None,
            min_reclaim: None,
        }
    }
}

impl Default for EvictionConfig {
    /// Upstream's.
    fn default() -> Self {
        let share = |signal, share| Threshold::hard(signal, Amount::Share(share));
        Self {
            thresholds: vec![
                Threshold::hard(Signal::MemoryAvailable, Amount::Quantity(100 << 20)),
                share(Signal::NodefsAvailable, 0.10),
                share(Signal::NodefsInodesFree, 0.05),
                share(Signal::ImagefsAvailable, 0.15),
                share(Signal::ImagefsInodesFree, 0.05),
            ],
            max_pod_grace: 0,
            transition: Duration::from_secs(300),
            interval: Duration::from_secs(10),
        }
    }
}

impl EvictionConfig {
    /// Takes the hard limits of `memory.available<100Mi,nodefs.available<10%,…` in place of those there were for the
    /// same signals; 0% takes one away.
    ///
    /// # Errors
    /// [`ThresholdError`].
    pub fn hard(mut self, text: &str) -> Result<Self, ThresholdError> {
        for (signal, value) in pairs(text, '<')? {
            let value = Amount::parse(&value)?;
            self.thresholds
                .retain(|old| old.signal != signal || old.grace.is_some());
            if value.of(u64::MAX) > 0 {
                self.thresholds.push(Threshold::hard(signal, value));
            }
        }
        Ok(self)
    }

    /// Adds limits with grace: `memory.available<200Mi,…`, each with its time in `memory.available=1m30s,…`.
    ///
    /// # Errors
    /// [`ThresholdError`].
    pub fn soft(mut self, text: &str, graces: &str) -> Result<Self, ThresholdError> {
        let mut graces = pairs(graces, '=')?;
        for (signal, value) in pairs(text, '<')? {
            let place = graces.iter().position(|(of, _)| *of == signal);
            let (_, grace) = graces.remove(place.ok_or(ThresholdError::NoGrace(signal))?);
            self.thresholds.push(Threshold {
                grace: Some(duration(&grace)?),
                ..Threshold::hard(signal, Amount::parse(&value)?)
            });
        }
        match graces.first() {
            Some((signal, _)) => Err(ThresholdError::NoSoft(*signal)),
            None => Ok(self),
        }
    }

    /// Sets how much more than the limit must be free again: `imagefs.available=2Gi,…`.
    ///
    /// # Errors
    /// [`ThresholdError`].
    pub fn minimum_reclaim(mut self, text: &str) -> Result<Self, ThresholdError> {
        for (signal, value) in pairs(text, '=')? {
            let value = Amount::parse(&value)?;
            let fitting = self.thresholds.iter_mut().filter(|one| one.signal == signal);
            fitting.for_each(|one| one.min_reclaim = Some(value));
        }
        Ok(self)
    }

    /// Lets what must stay free of the machine's memory stay free of the pods' share too (upstream:
    /// `addAllocatableThresholds`).
    #[must_use]
    pub(crate) fn for_allocatable(mut self) -> Self {
        let hard = self.thresholds.iter();
        let memory = hard.filter(|one| one.signal == Signal::MemoryAvailable && one.grace.is_none());
        let added = memory.map(|one| Threshold {
            signal: Signal::AllocatableMemoryAvailable,
            ..*one
        });
        let added: Vec<Threshold> = added.collect();
        self.thresholds.extend(added);
        self
    }

    /// What the limit that is acted upon at once holds back of a whole.
    pub fn held(&self, signal: Signal, capacity: u64) -> u64 {
        let mut hard = self.thresholds.iter().filter(|one| one.grace.is_none());
        let limit = hard.find(|one| one.signal == signal);
        limit.map_or(0, |limit| limit.value.of(capacity))
    }
}

/// The parts of a list with the signal of each.
fn pairs(text: &str, between: char) -> Result<Vec<(Signal, String)>, ThresholdError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (signal, value) = part
            .split_once(between)
            .ok_or_else(|| ThresholdError::Form(part.to_owned(), between))?;
        Ok((signal.trim().parse()?, value.trim().to_owned()))
    };
    parts.map(pair).collect()
}

/// Reads a duration as Go writes it.
///
/// # Errors
/// [`ThresholdError::Duration`].
pub fn duration(text: &str) -> Result<Duration, ThresholdError> {
    parse_duration(text).ok_or_else(|| ThresholdError::Duration(text.to_owned()))
}
