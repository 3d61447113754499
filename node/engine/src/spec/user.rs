//! Who the container runs as: the configuration, the image, and the image's `passwd` and `group`.

use knode_cri::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::SpecError;

/// A user as numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResolvedUser {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary first.
    pub groups: Vec<u32>,
}

/// The user files of an image; empty text where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'a> {
    /// Text of `/etc/passwd`.
    pub passwd: &'a str,
    /// Text of `/etc/group`.
    pub group: &'a str,
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl<'a> Accounts<'a> {
    fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Entry { name, uid, gid })
        })
    }

    fn group_number(self, name: &str) -> Option<u32> {
        self.groups()
            .find(|(other, _, _)| *other == name)
            .map(|(_, gid, _)| gid)
    }

    fn groups(self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }

    /// Groups that list the user as a member.
    fn member_of(self, user: &str) -> impl Iterator<Item = u32> {
        self.groups()
            .filter(move |(_, _, members)| members.split(',').any(|member| member == user))
            .map(|group| group.1)
    }
}

/// Finds the numbers of the user that a container runs as.
///
/// # Errors
/// A name that the image does not know, a number out of range, a group without a user.
pub fn resolve(
    context: &LinuxContainerSecurityContext,
    image_user: &str,
    accounts: Accounts<'_>,
) -> Result<ResolvedUser, SpecError> {
    let text = wanted(context, image_user)?;
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text.as_str(), None),
    };
    let number = |text: &str| text.parse::<u32>().ok();
    let entry = accounts.entries().find(|entry| entry.name == user);
    let entry =
        entry.or_else(|| number(user).and_then(|uid| accounts.entries().find(|entry| entry.uid == uid)));
    let uid = match (&entry, number(user)) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) if user.is_empty() => 0,
        (None, None) => return Err(SpecError::UnknownUser(user.to_string())),
    };
    let gid = match group {
        None => entry.as_ref().map_or(0, |entry| entry.gid),
        Some(group) => accounts
            .group_number(group)
            .or_else(|| number(group))
            .ok_or_else(|| SpecError::UnknownGroup(group.to_string()))?,
    };
    let name = entry.map(|entry| entry.name);
    Ok(ResolvedUser {
        uid,
        gid,
        groups: groups(context, gid, name, accounts)?,
    })
}

/// The user as text, `user[:group]`.
fn wanted(context: &LinuxContainerSecurityContext, image_user: &str) -> Result<String, SpecError> {
    let uid = context.run_as_user.as_ref().map(|uid| uid.value);
    let gid = context.run_as_group.as_ref().map(|gid| gid.value);
    for number in [uid, gid].into_iter().flatten() {
        u32::try_from(number).map_err(|_| SpecError::Number(number))?;
    }
    let user = match uid {
        Some(uid) => uid.to_string(),
        None => context.run_as_username.clone(),
    };
    match gid {
        Some(gid) if user.is_empty() => Err(SpecError::GroupWithoutUser(gid)),
        Some(gid) => Ok(format!("{user}:{gid}")),
        None if user.is_empty() => Ok(image_user.to_string()),
        None => Ok(user),
    }
}

fn groups(
    context: &LinuxContainerSecurityContext,
    gid: u32,
    name: Option<&str>,
    accounts: Accounts<'_>,
) -> Result<Vec<u32>, SpecError> {
    let mut list = vec![gid];
    let mut add = |gid: u32| {
        if !list.contains(&gid) {
            list.push(gid);
        }
    };
    if let (Some(name), SupplementalGroupsPolicy::Merge) = (name, context.supplemental_groups_policy()) {
        accounts.member_of(name).for_each(&mut add);
    }
    for group in &context.supplemental_groups {
        add(u32::try_from(*group).map_err(|_| SpecError::Number(*group))?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::Int64Value;

    const ACCOUNTS: Accounts<'static> = Accounts {
        passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/:/bin/false\nbroken\n",
        group: "root:x:0:\nweb:x:34:\nlogs:x:50:web,other\nusers:x:100:web\n",
    };

    fn context(uid: Option<i64>, gid: Option<i64>) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            run_as_user: uid.map(|value| Int64Value { value }),
            run_as_group: gid.map(|value| Int64Value { value }),
            ..Default::default()
        }
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> ResolvedUser {
        ResolvedUser {
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let of = |text: &str| resolve(&context(None, None), text, ACCOUNTS).unwrap();
        assert_eq!(of(""), user(0, 0, &[0]));
        assert_eq!(of("web"), user(33, 34, &[34, 50, 100]));
        assert_eq!(of("33"), user(33, 34, &[34, 50, 100]));
        assert_eq!(of("1234"), user(1234, 0, &[0]));
        assert_eq!(of("1234:users"), user(1234, 100, &[100]));
        assert_eq!(of("web:7"), user(33, 7, &[7, 50, 100]));
    }

    #[test]
    fn the_configuration_has_the_first_word() {
        let of = |uid, gid| resolve(&context(uid, gid), "web", ACCOUNTS);
        assert_eq!(of(Some(0), None).unwrap(), user(0, 0, &[0]));
        assert_eq!(of(Some(33), Some(9)).unwrap(), user(33, 9, &[9, 50, 100]));
        assert!(matches!(of(None, Some(9)), Err(SpecError::GroupWithoutUser(9))));
        assert!(matches!(of(Some(-1), None), Err(SpecError::Number(-1))));
    }

    #[test]
    fn unknown_names_are_refused() {
        let of = |text: &str| resolve(&context(None, None), text, ACCOUNTS);
        assert!(matches!(of("ghost"), Err(SpecError::UnknownUser(name)) if name == "ghost"));
        assert!(matches!(of("web:ghosts"), Err(SpecError::UnknownGroup(name)) if name == "ghosts"));
    }

    #[test]
    fn strict_leaves_the_images_groups_out() {
        let mut context = context(Some(33), None);
        context.supplemental_groups = vec![2000];
        assert_eq!(
            resolve(&context, "", ACCOUNTS).unwrap(),
            user(33, 34, &[34, 50, 100, 2000])
        );
        context.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        assert_eq!(
            resolve(&context, "", ACCOUNTS).unwrap(),
            user(33, 34, &[34, 2000])
        );
    }
}
