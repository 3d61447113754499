use serde_json::json;

use super::*;

fn volume() -> DriverVolume {
    DriverVolume {
        driver: "d".into(),
        persistent: true,
        fs_type: "ext4".into(),
        access_modes: vec!["ReadWriteOnce".into()],
        ..DriverVolume::default()
    }
}

#[test]
fn rules_have_upstreams_defaults() {
    let rules = DriverRules::of(None);
    assert!(rules.attach && !rules.pod_info && !rules.republish);
    assert_eq!(rules.modes, ["Persistent"]);
    let told = json!({"spec": {"attachRequired": false, "podInfoOnMount": true, "requiresRepublish": true,
        "tokenRequests": [{"audience": "a"}, {"audience": "b", "expirationSeconds": 600}],
        "volumeLifecycleModes": ["Ephemeral"]}});
    let rules = DriverRules::of(Some(&told));
    assert!(!rules.attach && rules.pod_info && rules.republish);
    assert_eq!(rules.tokens, [("a".into(), 3600), ("b".into(), 600)]);
    assert_eq!(
        rules.refusal(&volume()).unwrap(),
        r#"volume mode "Persistent" not supported by driver d (only supports ["Ephemeral"])"#
    );
}

#[test]
fn files_are_given_to_the_group_by_the_driver_s_policy() {
    let given = |policy: &str, change: fn(&mut DriverVolume)| {
        let rules = DriverRules::of(Some(&json!({"spec": {"fsGroupPolicy": policy}})));
        let mut volume = volume();
        change(&mut volume);
        rules.group(&volume, Some(7)).is_some()
    };
    let default = "ReadWriteOnceWithFSType";
    assert!(given(default, |_| ()));
    assert!(!given(default, |volume| volume.fs_type.clear()));
    assert!(!given(default, |volume| volume
        .access_modes
        .push("ReadOnlyMany".into())));
    assert!(given("File", |volume| volume.fs_type.clear()));
    assert!(!given("File", |volume| volume.read_only = true));
    assert!(!given("File", |volume| volume.block = true));
    assert!(!given("None", |_| ()));
}

#[test]
fn capabilities_are_what_the_driver_knows() {
    let mode = |mode: &str, many_writers| {
        let volume = DriverVolume {
            access_modes: vec![mode.into()],
            ..volume()
        };
        let can = Abilities {
            many_writers,
            ..Abilities::default()
        };
        capability(&volume, can, None).access_mode.unwrap().mode()
    };
    assert_eq!(mode("ReadWriteOnce", false), Mode::SingleNodeWriter);
    assert_eq!(mode("ReadWriteOnce", true), Mode::SingleNodeMultiWriter);
    assert_eq!(mode("ReadWriteOncePod", false), Mode::SingleNodeWriter);
    assert_eq!(mode("ReadWriteOncePod", true), Mode::SingleNodeSingleWriter);
    assert_eq!(mode("ReadOnlyMany", false), Mode::MultiNodeReaderOnly);
    assert_eq!(mode("ReadWriteMany", false), Mode::MultiNodeMultiWriter);
    let can = Abilities {
        mount_group: true,
        ..Abilities::default()
    };
    let Some(AccessType::Mount(mount)) = capability(&volume(), can, Some(7)).access_type else {
        panic!("no mount")
    };
    assert_eq!(
        (mount.fs_type.as_str(), mount.volume_mount_group.as_str()),
        ("ext4", "7")
    );
}

#[test]
fn only_what_is_attached_is_told_of() {
    let data = |handle: &str, attachment: &str| VolumeData {
        driver_name: "d".into(),
        volume_handle: handle.into(),
        attachment_id: attachment.into(),
        ..VolumeData::default()
    };
    let told = in_use(&[data("a", "csi-1"), data("a", "csi-1"), data("b", "")]);
    assert_eq!(told, ["kubernetes.io/csi/d^a".to_owned()].into());
}

#[test]
fn what_a_pod_has_is_not_unused() {
    let data = |driver: &str, handle: &str| VolumeData {
        driver_name: driver.into(),
        volume_handle: handle.into(),
        ..VolumeData::default()
    };
    let staged = vec![(1, data("d", "a")), (2, data("d", "b")), (3, data("e", "a"))];
    let left = unused(staged, &[data("d", "a")]);
    assert_eq!(
        left.into_iter().map(|(place, _)| place).collect::<Vec<_>>(),
        [2, 3]
    );
}
