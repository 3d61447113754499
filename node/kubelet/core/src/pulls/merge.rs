//! Credentials that turned out to be good, added to a record (upstream: `pulledRecordMergeNewCreds`). Pure.

use super::record::{PullAccount, PullCredentials, PullSecret, PulledRecord};

/// What a pull succeeded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The node's own credentials, or none.
    Node,
    /// Those of a secret.
    Secret(PullSecret),
    /// Those that a plugin gave for a service account.
    Account(PullAccount),
}

/// Adds `source` to what is good for `repository`; whether the record changed.
pub(super) fn add(record: &mut PulledRecord, repository: &str, source: Source) -> bool {
    let known = record
        .credential_mapping
        .entry(repository.to_owned())
        .or_default();
    if known.node_pods_accessible {
        return false;
    }
    match source {
        Source::Node => {
            *known = PullCredentials {
                node_pods_accessible: true,
                ..PullCredentials::default()
            };
            true
        }
        Source::Secret(secret) => add_secret(&mut known.kubernetes_secrets, secret),
        Source::Account(account) => add_account(&mut known.kubernetes_service_accounts, account),
    }
}

/// One of each secret, with its newest hash.
fn add_secret(known: &mut Vec<PullSecret>, secret: PullSecret) -> bool {
    if known.contains(&secret) {
        return false;
    }
    known.retain(|one| one.at() != secret.at());
    known.push(secret);
    known.sort();
    true
}

fn add_account(known: &mut Vec<PullAccount>, account: PullAccount) -> bool {
    if known.contains(&account) {
        return false;
    }
    known.push(account);
    known.sort();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, hash: &str) -> Source {
        Source::Secret(PullSecret {
            namespace: "ns".into(),
            name: name.into(),
            uid: "u".into(),
            credential_hash: hash.into(),
        })
    }

    fn account(name: &str) -> Source {
        Source::Account(PullAccount {
            namespace: "ns".into(),
            name: name.into(),
            uid: "u".into(),
        })
    }

    #[test]
    fn what_is_good_is_added_once_and_in_order() {
        let mut record = PulledRecord::new("ref");
        for (source, changed) in [
            (secret("b", "1"), true),
            (secret("a", "1"), true),
            (secret("a", "1"), false),
            (secret("b", "2"), true),
            (account("b"), true),
            (account("a"), true),
            (account("b"), false),
        ] {
            assert_eq!(add(&mut record, "r", source.clone()), changed, "{source:?}");
        }
        let known = &record.credential_mapping["r"];
        let secrets = known.kubernetes_secrets.iter();
        let secrets: Vec<_> = secrets
            .map(|one| (one.name.as_str(), one.credential_hash.as_str()))
            .collect();
        assert_eq!(secrets, [("a", "1"), ("b", "2")]);
        let accounts = known.kubernetes_service_accounts.iter();
        assert_eq!(
            accounts.map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn what_every_pod_may_use_needs_no_names() {
        let mut record = PulledRecord::new("ref");
        assert!(add(&mut record, "r", secret("a", "1")));
        assert!(add(&mut record, "other", secret("a", "1")));
        assert!(add(&mut record, "r", Source::Node));
        let open = PullCredentials {
            node_pods_accessible: true,
            ..PullCredentials::default()
        };
        assert_eq!(record.credential_mapping["r"], open);
        assert!(!add(&mut record, "r", secret("b", "1")));
        assert!(!add(&mut record, "r", Source::Node));
        assert_eq!(record.credential_mapping["r"], open);
        assert!(!record.credential_mapping["other"].node_pods_accessible);
    }
}
