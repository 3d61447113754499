//! Text to number.
use super::{Format, NANO, Quantity};

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A number that cannot be read.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// A suffix that stands for no power.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    let parts = split(text)?;
    let (base, exponent, mut format) = suffix(parts.suffix)?;
    let nanos = if base == 2 {
        let shift = u32::try_from(exponent).map_err(|_| QuantityError::Suffix)?;
        let nanos = scaled(&parts, 9, 1_i128 << shift)?;
        nanos.min(i128::from(i64::MAX) * NANO)
    } else {
        scaled(&parts, 9 + exponent, 1)?
    };
    if format == Format::BinarySi && nanos > 0 && nanos < NANO {
        format = Format::DecimalSi;
    }
    Ok(Quantity {
        nanos: if parts.negative { -nanos } else { nanos },
        format,
    })
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(rest);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    let letters = rest
        .find(|c: char| !"eEinumkKMGTP".contains(c))
        .unwrap_or(rest.len());
    let tail = &rest[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if !tail.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(if rest.is_empty() {
            QuantityError::Format
        } else {
            QuantityError::Numeric
        });
    }
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix: rest,
    })
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn suffix(text: &str) -> Result<(u8, i32, Format), QuantityError> {
    let (base, exponent, format) = match text {
        "n" => (10, -9, Format::DecimalSi),
        "u" => (10, -6, Format::DecimalSi),
        "m" => (10, -3, Format::DecimalSi),
        "" => (10, 0, Format::DecimalSi),
        "k" => (10, 3, Format::DecimalSi),
        "M" => (10, 6, Format::DecimalSi),
        "G" => (10, 9, Format::DecimalSi),
        "T" => (10, 12, Format::DecimalSi),
        "P" => (10, 15, Format::DecimalSi),
        "E" => (10, 18, Format::DecimalSi),
        "Ki" => (2, 10, Format::BinarySi),
        "Mi" => (2, 20, Format::BinarySi),
        "Gi" => (2, 30, Format::BinarySi),
        "Ti" => (2, 40, Format::BinarySi),
        "Pi" => (2, 50, Format::BinarySi),
        "Ei" => (2, 60, Format::BinarySi),
        _ => (10, exponent(text)?, Format::DecimalExponent),
    };
    Ok((base, exponent, format))
}

fn exponent(text: &str) -> Result<i32, QuantityError> {
    let digits = text.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    digits.parse().map_err(|_| QuantityError::Suffix)
}

/// `parts` times `factor` times 10^`scale`, rounded away from zero, saturating.
fn scaled(parts: &Parts<'_>, scale: i32, factor: i128) -> Result<i128, QuantityError> {
    let mut mantissa: i128 = 0;
    for b in parts.whole.bytes().chain(parts.fraction.bytes()) {
        mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(b - b'0'));
    }
    let mantissa = mantissa.saturating_mul(factor);
    let shift = scale - i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    Ok(match (shift >= 0, power) {
        (true, Some(p)) => mantissa.saturating_mul(p),
        (true, None) => {
            if mantissa == 0 {
                0
            } else {
                i128::MAX
            }
        }
        (false, Some(p)) => mantissa / p + i128::from(mantissa % p != 0),
        (false, None) => i128::from(mantissa != 0),
    })
}
