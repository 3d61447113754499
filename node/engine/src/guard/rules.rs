//! From the rules of a specification to those that are asked. Pure.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Kinds of devices as the kernel numbers them (`BPF_DEVCG_DEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block = 1,
    Character = 2,
}

impl Kind {
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// What is done with a device (`BPF_DEVCG_ACC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(i32);

impl Access {
    const MAKE: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;

    /// Of the letters `r`, `w` and `m`; all without any.
    fn of(text: Option<&str>) -> Self {
        let bit = |letter| match letter {
            'm' => Self::MAKE,
            'r' => Self::READ,
            'w' => Self::WRITE,
            _ => 0,
        };
        let all = text.unwrap_or("rwm").chars().map(bit);
        Self(all.fold(0, |bits, bit| bits | bit))
    }

    pub fn bits(self) -> i32 {
        self.0
    }
}

/// Something that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub kind: Kind,
    /// All without.
    pub major: Option<u32>,
    /// All without.
    pub minor: Option<u32>,
    pub access: Access,
}

/// What every container may use besides what it is given, as libcontainer has it: making nodes, terminals of its own,
/// and the usual ones.
const USUAL: [(Kind, Option<u32>, Option<u32>, &str); 12] = [
    (Kind::Character, None, None, "m"),
    (Kind::Block, None, None, "m"),
    (Kind::Character, Some(136), None, "rwm"),
    (Kind::Character, Some(1), Some(3), "rwm"),
    (Kind::Character, Some(1), Some(5), "rwm"),
    (Kind::Character, Some(1), Some(7), "rwm"),
    (Kind::Character, Some(1), Some(8), "rwm"),
    (Kind::Character, Some(1), Some(9), "rwm"),
    (Kind::Character, Some(5), Some(0), "rwm"),
    (Kind::Character, Some(5), Some(1), "rwm"),
    (Kind::Character, Some(5), Some(2), "rwm"),
    (Kind::Character, Some(10), Some(200), "rwm"),
];

/// What is allowed in the end, each device once with all that may be done with it; none where that is everything. A rule
/// that denies all takes back what was allowed before it; others that deny do not come from this engine and have no
/// effect.
pub(super) fn in_force<'a>(rules: impl IntoIterator<Item = &'a LinuxDeviceCgroup>) -> Option<Vec<Rule>> {
    let (mut allowed, mut everything) = (Vec::new(), false);
    for rule in rules {
        let access = Access::of(rule.access().as_deref());
        let of_all = rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A);
        match (rule.allow(), of_all) {
            (false, true) => (allowed, everything) = (Vec::new(), false),
            (false, false) => {}
            (true, true) if access == Access::of(None) => everything = true,
            (true, _) => kinds(rule.typ()).iter().for_each(|kind| {
                let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
                let (major, minor) = (number(rule.major()), number(rule.minor()));
                add(
                    &mut allowed,
                    Rule {
                        kind: *kind,
                        major,
                        minor,
                        access,
                    },
                );
            }),
        }
    }
    for (kind, major, minor, access) in USUAL {
        let access = Access::of(Some(access));
        add(
            &mut allowed,
            Rule {
                kind,
                major,
                minor,
                access,
            },
        );
    }
    (!everything).then_some(allowed)
}

fn kinds(typ: Option<LinuxDeviceType>) -> &'static [Kind] {
    match typ {
        Some(LinuxDeviceType::B) => &[Kind::Block],
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Character],
        _ => &[Kind::Block, Kind::Character],
    }
}

/// What is asked at once must be in one rule.
fn add(allowed: &mut Vec<Rule>, rule: Rule) {
    let same =
        |other: &&mut Rule| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
    match allowed.iter_mut().find(same) {
        Some(known) => known.access = Access(known.access.0 | rule.access.0),
        None => allowed.push(rule),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    use super::*;

    fn rule(allow: bool, typ: LinuxDeviceType, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .typ(typ)
            .access(access)
            .build()
            .unwrap();
        rule.set_major((major >= 0).then_some(major));
        rule.set_minor((minor >= 0).then_some(minor));
        rule
    }

    fn own(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
        let mut all = in_force(rules).expect("not everything");
        all.truncate(all.len() - USUAL.len());
        all
    }

    #[test]
    fn a_device_stands_once_with_all_that_is_allowed() {
        use LinuxDeviceType::{A, B, C};
        let rules = [
            rule(true, C, 9, 9, "rwm"),
            rule(false, A, -1, -1, "rwm"),
            rule(true, C, 10, 229, "r"),
            rule(true, C, 10, 229, "w"),
            rule(true, B, 8, -1, "r"),
        ];
        let fuse = Rule {
            kind: Kind::Character,
            major: Some(10),
            minor: Some(229),
            access: Access(6),
        };
        let disks = Rule {
            kind: Kind::Block,
            major: Some(8),
            minor: None,
            access: Access(2),
        };
        assert_eq!(own(&rules), [fuse, disks]);
    }

    #[test]
    fn the_privileged_are_not_asked() {
        use LinuxDeviceType::A;
        let (deny, allow) = (rule(false, A, -1, -1, "rwm"), rule(true, A, -1, -1, "rwm"));
        assert_eq!(in_force([&deny, &allow]), None);
        assert!(in_force([&allow, &deny]).is_some());
        // As it was not said: nothing but the usual ones.
        assert_eq!(in_force([]).map(|all| all.len()), Some(USUAL.len()));
        let readers = in_force([&rule(true, A, -1, -1, "r")]).expect("not everything");
        assert_eq!(readers.len(), USUAL.len());
        assert!(
            readers[..2]
                .iter()
                .all(|rule| rule.access == Access::of(Some("rm"))),
            "{readers:?}"
        );
    }
}
