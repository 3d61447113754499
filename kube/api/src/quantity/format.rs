//! Number to canonical text.
use super::{Format, NANO};

/// The canonical form: no fraction, the largest suffix that keeps the number exact.
pub(super) fn canonical(nanos: i128, format: Format) -> String {
    if nanos == 0 {
        return "0".into();
    }
    let small = nanos.abs() < 1024 * NANO;
    match format {
        Format::BinarySi if !small && nanos % NANO == 0 => binary(nanos / NANO),
        Format::DecimalExponent => decimal(nanos, exponent_suffix),
        _ => decimal(nanos, si_suffix),
    }
}

fn binary(mut number: i128) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut step = 0;
    while number % 1024 == 0 && step + 1 < SUFFIXES.len() {
        number /= 1024;
        step += 1;
    }
    format!("{number}{}", SUFFIXES[step])
}

fn decimal(mut number: i128, suffix: fn(i32) -> String) -> String {
    let mut exponent = -9;
    while number % 1000 == 0 && exponent < 18 {
        number /= 1000;
        exponent += 3;
    }
    format!("{number}{}", suffix(exponent))
}

fn exponent_suffix(exponent: i32) -> String {
    if exponent == 0 {
        String::new()
    } else {
        format!("e{exponent}")
    }
}

fn si_suffix(exponent: i32) -> String {
    const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let index = usize::try_from((exponent + 9) / 3).unwrap_or(3);
    SUFFIXES[index.min(9)].into()
}
