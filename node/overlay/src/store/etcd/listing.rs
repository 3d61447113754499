use super::key::{Prefix, SubnetKey};
use crate::etcd::{Etcd, EtcdError};

/// A lease for the administrator's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whose subnets.
    pub key: SubnetKey,
    /// What the node says, as it stands.
    pub value: String,
    /// Seconds left; `None` for a reservation.
    pub seconds_left: Option<i64>,
}

/// All leases as etcd has them, by subnet.
///
/// # Errors
/// [`EtcdError`].
pub async fn list_leases(etcd: &Etcd, prefix: &Prefix) -> Result<Vec<Listed>, EtcdError> {
    let (keys, _) = etcd.list(&prefix.subnets()).await?;
    let mut leases = Vec::with_capacity(keys.len());
    for kv in keys {
        let Some(key) = prefix.lease(&kv.key) else {
            continue;
        };
        let seconds_left = match kv.lease {
            0 => None,
            lease => Some(etcd.time_to_live(lease).await?.unwrap_or(0)),
        };
        leases.push(Listed {
            key,
            value: String::from_utf8_lossy(&kv.value).into_owned(),
            seconds_left,
        });
    }
    leases.sort_by_key(|l| l.key);
    Ok(leases)
}
