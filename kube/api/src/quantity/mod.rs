//! Resource quantities (`k8s.io/apimachinery/pkg/api/resource`): fixed-point numbers with SI or binary suffixes.
mod format;
mod parse;

pub use parse::QuantityError;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

pub(crate) const NANO: i128 = 1_000_000_000;

/// How a quantity is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A number of at most nine decimals, and the format to print it in. Compares by number alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// The number in units of 10⁻⁹.
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Reads `500m`, `1.5Gi`, `1e3`.
    ///
    /// # Errors
    /// Upstream's words for a text that is no quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// A whole number.
    pub fn from_int(value: i64, format: Format) -> Self {
        Quantity {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// Thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Quantity {
            nanos: i128::from(value) * (NANO / 1000),
            format,
        }
    }

    /// The number rounded up to a whole one, capped to 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_up(NANO)
    }

    /// The number in thousandths, rounded up, capped to 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_up(NANO / 1000)
    }

    fn scaled_up(&self, unit: i128) -> i64 {
        let whole = self.nanos.div_euclid(unit);
        let up = if self.nanos.rem_euclid(unit) > 0 {
            whole + 1
        } else {
            whole
        };
        i64::try_from(up).unwrap_or(if up > 0 { i64::MAX } else { i64::MIN })
    }

    /// Whether the number is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Adds `other`; a zero takes on the other's format, as upstream does.
    pub fn add(&mut self, other: Quantity) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// Subtracts `other`.
    pub fn sub(&mut self, other: Quantity) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_sub(other.nanos);
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format::canonical(self.nanos, self.format))
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Quantity::parse(text)
    }
}

#[cfg(test)]
mod tests;
