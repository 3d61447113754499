//! Quantities as exact thousandths.

use super::FieldError;

/// A quantity in thousandths of its unit, rounded up as upstream's `MilliValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(i128);

impl Amount {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1000);

    /// Reads Kubernetes' notation: decimal and binary suffixes, exponents.
    pub(crate) fn parse(text: &str) -> Result<Self, FieldError> {
        let bad = || FieldError::Quantity(text.to_owned());
        let quantity = knode_api::quantity::Quantity::parse(text).map_err(|_| bad())?;
        Ok(Self(i128::from(quantity.milli_value())))
    }
}

/// `amount / unit`, rounded up.
pub(crate) fn ceil_div(amount: Amount, unit: Amount) -> i128 {
    (amount.0 + unit.0 - 1).div_euclid(unit.0)
}

/// A quantity in whole bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, FieldError> {
    let whole = ceil_div(Amount::parse(text)?, Amount::ONE);
    u64::try_from(whole).map_err(|_| FieldError::Quantity(text.to_owned()))
}
