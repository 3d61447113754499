//! The clock, and the dates of certificates.

use jiff::SignedDuration;

use crate::doctor::facts::{CertificateFile, Facts, Validity};
use crate::doctor::finding::Finding;

/// From here on a certificate's end is worth a word, unless it lives shorter anyway.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![clock(&facts.clock)];
    all.extend(facts.certificates.iter().map(|file| certificate(file, facts)));
    all
}

fn clock(clock: &Result<bool, String>) -> Finding {
    let check = "time";
    let mend = "run a time service, for example apt install systemd-timesyncd or chrony";
    match clock {
        Ok(true) => Finding::ok(check, "synchronised"),
        Ok(false) => Finding::warn(
            check,
            "nobody keeps the clock: certificates and leases go by it",
            mend,
        ),
        Err(error) => Finding::warn(check, format!("the kernel does not say: {error}"), mend),
    }
}

fn certificate(file: &CertificateFile, facts: &Facts) -> Finding {
    let check = format!("certificate {}", file.path.display());
    match &file.content {
        Err(error) => Finding::fail(
            check,
            error,
            "put the right file there, or remove it to have it made anew",
        ),
        Ok(validity) => dates(check, validity, facts),
    }
}

fn dates(check: String, validity: &Validity, facts: &Facts) -> Finding {
    let Validity {
        subject,
        not_before,
        not_after,
    } = validity;
    let left = not_after.duration_since(facts.now);
    let life = not_after.duration_since(*not_before);
    let renewed = if facts.daemon.is_some() {
        "knode renews what it has issued by itself; see the log for why it did not"
    } else {
        "start knode, which renews what it has issued; join anew if the node's own has ended"
    };
    if facts.now < *not_before {
        let found = format!("{subject}: not valid before {not_before}");
        return Finding::fail(check, found, "set the clock right");
    }
    if left <= SignedDuration::ZERO {
        return Finding::fail(check, format!("{subject}: ended at {not_after}"), renewed);
    }
    let found = format!("{subject}: {} days left", left.as_hours() / 24);
    if left < SOON.min(life / 10) {
        return Finding::warn(check, format!("{found}, until {not_after}"), renewed);
    }
    Finding::ok(check, found)
}
