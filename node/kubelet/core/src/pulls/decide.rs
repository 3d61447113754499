//! Whether a pod may use an image that is here (upstream: `PullManager.MustAttemptImagePull`). Pure.

use super::policy::PullVerification;
use super::record::{PullAccount, PullCredentials, PullSecret, PulledRecord};
use crate::image::repository;

/// Secrets of one repository from which on no more are written down for having been seen.
const SECRETS: usize = 100;

/// What is known of an image that is here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// Nothing: the kubelet has not brought it.
    Nothing,
    /// The kubelet began to pull it; who may use it is not known.
    Begun,
    /// There is something, which cannot be read.
    Unreadable,
    /// What the kubelet wrote down.
    Record(&'a PulledRecord),
}

/// What follows from that, before anybody's credentials are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// Every pod may use it.
    Open,
    /// Nobody may before a pull with the pod's credentials.
    Verify,
    /// Those that have one of these.
    Compare(PullCredentials),
}

/// What pods must have to use `image`.
pub(super) fn look(policy: &PullVerification, image: &str, known: Known<'_>) -> Look {
    if matches!(known, Known::Unreadable) {
        return Look::Verify;
    }
    if !policy.asks_for(image, !matches!(known, Known::Nothing)) {
        return Look::Open;
    }
    let Known::Record(record) = known else {
        return Look::Verify;
    };
    match record.credential_mapping.get(&repository(image)) {
        Some(all) if all.node_pods_accessible => Look::Open,
        Some(all) if all.kubernetes_secrets.is_empty() && all.kubernetes_service_accounts.is_empty() => {
            Look::Verify
        }
        Some(all) => Look::Compare(all.clone()),
        None => Look::Verify,
    }
}

/// The credentials that a pod has for an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodCredentials {
    pub secrets: Vec<PullSecret>,
    pub account: Option<PullAccount>,
}

/// What comes of comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// The pod has nothing of what is known to be good.
    None,
    /// It has.
    Same,
    /// It has, and this secret is worth being written down: it is another with the same credentials, or the same with
    /// others.
    Learn(PullSecret),
}

/// Whether a pod has one of the credentials that are `known` to be good.
pub(crate) fn compare(known: &PullCredentials, pod: &PodCredentials) -> Match {
    let room = known.kubernetes_secrets.len() < SECRETS;
    for (secret, good) in pod
        .secrets
        .iter()
        .flat_map(|secret| known.kubernetes_secrets.iter().map(move |good| (secret, good)))
    {
        let same_hash = !good.credential_hash.is_empty() && good.credential_hash == secret.credential_hash;
        match (same_hash, good.at() == secret.at()) {
            (true, true) => return Match::Same,
            (true, false) | (false, true) if room => return Match::Learn(secret.clone()),
            (true, false) => return Match::Same,
            // A secret that changed is asked about again, where no more can be written down.
            (false, _) => {}
        }
    }
    match &pod.account {
        Some(account) if known.kubernetes_service_accounts.contains(account) => Match::Same,
        _ => Match::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{Source, add};
    use super::*;

    fn secret(uid: &str, hash: &str) -> PullSecret {
        PullSecret {
            namespace: "ns".into(),
            name: "s".into(),
            uid: uid.into(),
            credential_hash: hash.into(),
        }
    }

    fn account(uid: &str) -> PullAccount {
        PullAccount {
            namespace: "ns".into(),
            name: "a".into(),
            uid: uid.into(),
        }
    }

    /// A record of an image that was pulled as `reg.io/a` with these.
    fn record(sources: &[Source]) -> PulledRecord {
        let mut record = PulledRecord::new("sha256:1");
        for source in sources {
            add(&mut record, "reg.io/a", source.clone());
        }
        record
    }

    #[test]
    fn what_is_known_decides_who_may_use_an_image() {
        use PullVerification::{Always, Never, NeverPreloaded};
        let listed = ["reg.io/a".to_owned()];
        let listed = PullVerification::new("NeverVerifyAllowlistedImages", &listed).unwrap();
        let open = record(&[Source::Node]);
        let nobodys = PulledRecord::new("sha256:1");
        let secrets = record(&[Source::Secret(secret("u", "h"))]);
        let accounts = record(&[Source::Account(account("u"))]);
        let compare = |record: &PulledRecord| Look::Compare(record.credential_mapping["reg.io/a"].clone());
        let image = "reg.io/a:1";
        for (policy, image, known, expected) in [
            (&Never, image, Known::Record(&secrets), Look::Open),
            (&Never, image, Known::Unreadable, Look::Verify),
            (&NeverPreloaded, image, Known::Nothing, Look::Open),
            (&NeverPreloaded, image, Known::Begun, Look::Verify),
            (&NeverPreloaded, image, Known::Unreadable, Look::Verify),
            (&NeverPreloaded, image, Known::Record(&nobodys), Look::Verify),
            (&NeverPreloaded, image, Known::Record(&open), Look::Open),
            (&NeverPreloaded, image, Known::Record(&secrets), compare(&secrets)),
            (
                &NeverPreloaded,
                image,
                Known::Record(&accounts),
                compare(&accounts),
            ),
            (&NeverPreloaded, "reg.io/b", Known::Record(&open), Look::Verify),
            (&Always, image, Known::Nothing, Look::Verify),
            (&Always, "reg.io/a@sha256:1", Known::Record(&open), Look::Open),
            (&listed, image, Known::Record(&secrets), Look::Open),
            (&listed, "reg.io/b", Known::Nothing, Look::Verify),
            (&listed, "reg.io/b", Known::Record(&secrets), Look::Verify),
        ] {
            assert_eq!(
                look(policy, image, known),
                expected,
                "{policy:?} {image} {known:?}"
            );
        }
    }

    #[test]
    fn pods_are_known_by_what_they_have() {
        let known = record(&[Source::Secret(secret("u", "h")), Source::Account(account("u"))]);
        let known = known.credential_mapping["reg.io/a"].clone();
        let pod = |secrets: &[PullSecret], account| PodCredentials {
            secrets: secrets.to_vec(),
            account,
        };
        for (pod, expected) in [
            (pod(&[], None), Match::None),
            (pod(&[secret("u", "h")], None), Match::Same),
            (pod(&[secret("v", "h")], None), Match::Learn(secret("v", "h"))),
            (pod(&[secret("u", "i")], None), Match::Learn(secret("u", "i"))),
            (pod(&[secret("v", "i")], None), Match::None),
            (pod(&[secret("v", "i"), secret("u", "h")], None), Match::Same),
            (pod(&[], Some(account("u"))), Match::Same),
            (pod(&[], Some(account("v"))), Match::None),
        ] {
            assert_eq!(compare(&known, &pod), expected, "{pod:?}");
        }
        let unread = PullCredentials {
            kubernetes_secrets: vec![secret("u", "")],
            ..PullCredentials::default()
        };
        assert_eq!(compare(&unread, &pod(&[secret("v", "")], None)), Match::None);
    }

    #[test]
    fn no_end_of_secrets_is_written_down() {
        let many = |count: usize| PullCredentials {
            kubernetes_secrets: (0..count).map(|n| secret(&n.to_string(), "h")).collect(),
            ..PullCredentials::default()
        };
        let pod = |secret: PullSecret| PodCredentials {
            secrets: vec![secret],
            account: None,
        };
        let other = pod(secret("x", "h"));
        assert_eq!(compare(&many(99), &other), Match::Learn(secret("x", "h")));
        assert_eq!(compare(&many(100), &other), Match::Same);
        let changed = pod(secret("1", "i"));
        assert_eq!(compare(&many(99), &changed), Match::Learn(secret("1", "i")));
        assert_eq!(compare(&many(100), &changed), Match::None);
    }
}
