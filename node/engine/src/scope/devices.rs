//! Rules of devices as systemd takes them. Pure.
//!
//! systemd has to know them: when anything else in the slice brings it to manage devices there, it writes those of every
//! unit below anew.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Everything of a kind.
const ALL: [(&str, LinuxDeviceType); 2] = [("char", LinuxDeviceType::C), ("block", LinuxDeviceType::B)];

/// What every container may use besides what it is given, as libcontainer has it: making nodes, and the usual ones.
const USUAL: [(&str, &str); 12] = [
    ("char-*", "m"),
    ("block-*", "m"),
    ("char-pts", "rwm"),
    ("/dev/char/1:3", "rwm"),
    ("/dev/char/1:5", "rwm"),
    ("/dev/char/1:7", "rwm"),
    ("/dev/char/1:8", "rwm"),
    ("/dev/char/1:9", "rwm"),
    ("/dev/char/5:0", "rwm"),
    ("/dev/char/5:1", "rwm"),
    ("/dev/char/5:2", "rwm"),
    ("/dev/char/10:200", "rwm"),
];

/// What `DeviceAllow` says of rules and of [`USUAL`], for a policy that denies all else: devices and the access to them. `majors` is the
/// kernel's `/proc/devices`. What systemd cannot express is left out: a minor number without a major one, a major number
/// without a name.
pub fn allowed<'a>(
    rules: impl IntoIterator<Item = &'a LinuxDeviceCgroup>,
    majors: &str,
) -> Vec<(String, String)> {
    let mut allowed: Vec<(String, String)> = Vec::new();
    for rule in rules {
        if !rule.allow() {
            if is_of_all(rule) {
                allowed.clear();
            }
            continue;
        }
        let access = rule.access().clone().unwrap_or_else(|| "rwm".to_owned());
        for (kind, typ) in ALL {
            if (is_of_all(rule) || rule.typ() == Some(typ))
                && let Some(device) = device(rule, kind, majors)
            {
                add(&mut allowed, device, &access);
            }
        }
    }
    for (device, access) in USUAL {
        add(&mut allowed, device.to_owned(), access);
    }
    allowed
}

/// systemd takes the last access that a device is named with: there is one, with all.
fn add(allowed: &mut Vec<(String, String)>, device: String, access: &str) {
    match allowed.iter_mut().find(|(other, _)| *other == device) {
        Some((_, known)) => {
            let fresh = access.chars().filter(|kind| !known.contains(*kind));
            *known = known.chars().chain(fresh).collect();
        }
        None => allowed.push((device, access.to_owned())),
    }
}

fn is_of_all(rule: &LinuxDeviceCgroup) -> bool {
    rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A)
}

/// A device, or a pattern of kernel's names of them.
fn device(rule: &LinuxDeviceCgroup, kind: &str, majors: &str) -> Option<String> {
    let number = |number: Option<i64>| number.filter(|number| *number >= 0);
    match (number(rule.major()), number(rule.minor())) {
        _ if is_of_all(rule) => Some(format!("{kind}-*")),
        (None, None) => Some(format!("{kind}-*")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => Some(format!("{kind}-{}", name(kind, major, majors)?)),
        (None, Some(_)) => None,
    }
}

fn name<'a>(kind: &str, major: i64, majors: &'a str) -> Option<&'a str> {
    let begin = if kind == "char" { "Character" } else { "Block" };
    let mut lines = majors.lines().skip_while(|line| !line.starts_with(begin)).skip(1);
    let mut pairs = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.trim().split_once(' '));
    pairs.find_map(|(number, name)| (number.parse() == Ok(major)).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    const MAJORS: &str = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n";

    fn rule(allow: bool, typ: LinuxDeviceType, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ);
        if major >= 0 {
            rule = rule.major(major);
        }
        if minor >= 0 {
            rule = rule.minor(minor);
        }
        rule.access(access).build().unwrap()
    }

    fn of(rules: &[LinuxDeviceCgroup]) -> Vec<String> {
        let pairs = allowed(rules, MAJORS).into_iter();
        pairs
            .map(|(device, access)| format!("{device} {access}"))
            .collect()
    }

    #[test]
    fn rules_are_devices_and_names_of_the_kernel() {
        use LinuxDeviceType::{A, B, C};
        let rules = [
            rule(true, C, 9, 9, "rwm"),
            rule(false, A, -1, -1, "rwm"),
            rule(true, C, 1, 3, "rwm"),
            rule(true, C, 136, -1, "rw"),
            rule(true, B, 1, -1, "r"),
            rule(true, B, -1, -1, "m"),
            rule(true, C, 77, -1, "rwm"),
            rule(true, C, -1, 7, "rwm"),
        ];
        let expected = [
            "/dev/char/1:3 rwm",
            "char-pts rwm",
            "block-ramdisk r",
            "block-* m",
            "char-* m",
            "/dev/char/1:5 rwm",
        ];
        assert_eq!(of(&rules)[..expected.len()], expected);
        assert!(!of(&rules).iter().any(|line| line.contains("9:9")));
        let privileged = of(&[rule(true, A, -1, -1, "rwm")]);
        assert_eq!(privileged[..2], ["char-* rwm", "block-* rwm"]);
        assert!(
            !privileged[2..].iter().any(|line| line.contains('*')),
            "{privileged:?}"
        );
    }
}
