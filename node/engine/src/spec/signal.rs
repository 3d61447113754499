//! Names of signals.

use knode_cri::Signal;

use super::SpecError;

const NAMES: &[(&str, i32)] = &[
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal given as `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` and so on.
///
/// # Errors
/// [`SpecError::Signal`] for anything else.
pub fn number(text: &str) -> Result<i32, SpecError> {
    let unknown = || SpecError::Signal(text.to_string());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(other, _)| *other == name) {
        return Ok(*number);
    }
    real_time(name).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN
            + if offset.is_empty() {
                0
            } else {
                offset.strip_prefix('+')?.parse::<i32>().ok()?
            }
    } else {
        let offset = name.strip_prefix("RTMAX")?;
        RTMAX
            - if offset.is_empty() {
                0
            } else {
                offset.strip_prefix('-')?.parse::<i32>().ok()?
            }
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The signal that stops a container: the configuration's, else the image's, else SIGTERM.
///
/// # Errors
/// [`SpecError::Signal`] for an image that names one that does not exist.
pub fn stop_signal(configured: Signal, image: &str) -> Result<i32, SpecError> {
    if configured != Signal::RuntimeDefault {
        let name = configured
            .as_str_name()
            .replace("MINPLUS", "MIN+")
            .replace("MAXMINUS", "MAX-");
        return number(&name);
    }
    if image.is_empty() { Ok(15) } else { number(image) }
}

/// The CRI name of a signal number, [`Signal::RuntimeDefault`] for one that has none.
pub fn to_cri(number: i32) -> Signal {
    let name = match number {
        RTMIN => "SIGRTMIN".to_string(),
        RTMAX => "SIGRTMAX".to_string(),
        35..=49 => format!("SIGRTMINPLUS{}", number - RTMIN),
        50..=63 => format!("SIGRTMAXMINUS{}", RTMAX - number),
        _ => match NAMES.iter().find(|(_, other)| *other == number) {
            Some((name, _)) => format!("SIG{name}"),
            None => return Signal::RuntimeDefault,
        },
    };
    Signal::from_str_name(&name).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_signal() {
        for (text, wanted) in [
            ("SIGQUIT", 3),
            ("quit", 3),
            ("3", 3),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(number(text).unwrap(), wanted, "{text}");
        }
        for text in ["SIGNOPE", "0", "65", "SIGRTMIN+31", ""] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cri_names_come_and_go() {
        for signal in [
            Signal::Sigterm,
            Signal::Sigusr1,
            Signal::Sigrtminplus3,
            Signal::Sigrtmaxminus14,
            Signal::Sigrtmax,
        ] {
            let number = stop_signal(signal, "").unwrap();
            assert_eq!(to_cri(number), signal);
        }
        assert_eq!(stop_signal(Signal::RuntimeDefault, "SIGINT").unwrap(), 2);
        assert_eq!(stop_signal(Signal::RuntimeDefault, "").unwrap(), 15);
    }
}
