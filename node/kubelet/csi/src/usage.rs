//! How full volumes are, by their drivers (upstream: `pkg/volume/csi/csi_metrics.go`).

use std::path::Path;

use knode_volumes::{DriverUsage, Phase, VolumeError};

use crate::client::{answer, timed};
use crate::csi::Csi;
use crate::layout::VolumeData;
use crate::v1::volume_usage::Unit;
use crate::v1::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse};

impl Csi {
    pub(crate) async fn usage_of(&self, path: &Path) -> Option<Result<DriverUsage, VolumeError>> {
        let data = VolumeData::read(path.parent()?)?;
        let driver = self.driver(&data.driver_name).ok()?;
        if !driver.abilities.usage {
            return None;
        }
        let request = NodeGetVolumeStatsRequest {
            volume_id: data.volume_handle.clone(),
            volume_path: path.display().to_string(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let told = answer(driver.calls().node_get_volume_stats(timed(request)).await);
        let read = told.and_then(|told| read(&told, driver.abilities.condition));
        Some(read.map_err(|message| VolumeError::in_phase(Phase::Usage, &data.spec_name, message)))
    }
}

/// What a driver has answered. Of bytes it must tell.
fn read(told: &NodeGetVolumeStatsResponse, with_condition: bool) -> Result<DriverUsage, String> {
    let mut found = DriverUsage::default();
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let mut has_bytes = false;
    for one in &told.usage {
        let (total, available, used) = (number(one.total), number(one.available), number(one.used));
        match one.unit() {
            Unit::Bytes => {
                has_bytes = true;
                (found.capacity, found.available, found.used) = (total, available, used);
            }
            Unit::Inodes => (found.inodes, found.inodes_free, found.inodes_used) = (total, available, used),
            Unit::Unknown => return Err("the driver tells of a unit that is not known".to_owned()),
        }
    }
    if with_condition {
        found.abnormal = told.volume_condition.as_ref().map(|condition| condition.abnormal);
    }
    match has_bytes || found.abnormal.is_some() {
        true => Ok(found),
        false => Err("the driver's answer has no usage".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{VolumeCondition, VolumeUsage};

    fn usage(unit: Unit, total: i64, available: i64, used: i64) -> VolumeUsage {
        VolumeUsage {
            available,
            total,
            used,
            unit: unit as i32,
        }
    }

    #[test]
    fn bytes_inodes_and_condition_are_read() {
        let told = NodeGetVolumeStatsResponse {
            usage: vec![usage(Unit::Bytes, 100, 60, 40), usage(Unit::Inodes, 10, 6, 4)],
            volume_condition: Some(VolumeCondition {
                abnormal: true,
                ..VolumeCondition::default()
            }),
        };
        let found = read(&told, true).unwrap();
        assert_eq!((found.capacity, found.available, found.used), (100, 60, 40));
        assert_eq!((found.inodes, found.inodes_free, found.inodes_used), (10, 6, 4));
        assert_eq!(found.abnormal, Some(true));
        assert_eq!(
            read(&told, false).unwrap().abnormal,
            None,
            "who cannot tell does not"
        );
    }

    #[test]
    fn an_answer_without_figures_is_none() {
        let of = |usage| NodeGetVolumeStatsResponse {
            usage,
            ..NodeGetVolumeStatsResponse::default()
        };
        assert!(read(&of(Vec::new()), false).is_err());
        assert!(read(&of(vec![usage(Unit::Unknown, 1, 1, 0)]), false).is_err());
        // Less than nothing is what some drivers call not known.
        let odd = read(&of(vec![usage(Unit::Bytes, -1, -1, 7)]), false).unwrap();
        assert_eq!((odd.capacity, odd.used), (0, 7));
    }
}
