//! Command lines of the entry points. They are written and read by the same program, so they are plain
//! `--name value` pairs.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::users::Settings;
use crate::shim::ShimArgs;

/// Names of the entry points.
const ENTRIES: [&str; 2] = ["shim", USERS];

/// Name of [`Entry::Users`].
const USERS: &str = "pod-users";

/// An entry point with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The pod's shim.
    Shim(ShimArgs),
    /// Makes the namespaces of a pod with users of its own, with these settings, and holds them for a while.
    Users(String),
}

/// The command line of a shim, without the program's name.
pub fn shim_command_line(args: &ShimArgs) -> Vec<OsString> {
    vec![
        "shim".into(),
        "--cgroup-root".into(),
        args.cgroup_root.clone().into(),
    ]
}

/// The command line of [`Entry::Users`], without the program's name.
pub(crate) fn users_command_line(settings: &Settings) -> std::io::Result<Vec<OsString>> {
    let settings = serde_json::to_string(settings)?;
    Ok(vec![USERS.into(), "--settings".into(), settings.into()])
}

/// Reads a command line; `None` when it names no entry point.
///
/// # Errors
/// What is missing or cannot be read.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Entry, String>> {
    let mut arguments = arguments.into_iter();
    let name = arguments.next()?;
    let name = name.to_str().filter(|name| ENTRIES.contains(name))?;
    Some(pairs(arguments).and_then(|mut given| entry(name, &mut given)))
}

fn entry(name: &str, given: &mut BTreeMap<String, OsString>) -> Result<Entry, String> {
    match name {
        USERS => {
            let settings = take(given, "--settings")?.into_string();
            Ok(Entry::Users(settings.map_err(|_| "--settings is not text")?))
        }
        _ => {
            let cgroup_root = take(given, "--cgroup-root")?.into();
            Ok(Entry::Shim(ShimArgs { cgroup_root }))
        }
    }
}

fn pairs(mut arguments: impl Iterator<Item = OsString>) -> Result<BTreeMap<String, OsString>, String> {
    let mut given = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let name = name
            .into_string()
            .map_err(|name| format!("unexpected argument {name:?}"))?;
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        given.insert(name, value);
    }
    Ok(given)
}

fn take(given: &mut BTreeMap<String, OsString>, name: &str) -> Result<OsString, String> {
    given.remove(name).ok_or_else(|| format!("{name} is missing"))
}

/// Makes one line of a message.
pub fn escape(message: &str) -> String {
    message.replace('\\', "\\\\").replace('\n', "\\n")
}

/// The reverse of [`escape`].
pub fn unescape(line: &str) -> String {
    let mut message = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => message.push('\n'),
                Some(other) => message.push(other),
                None => {}
            },
            other => message.push(other),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_as_they_were_written() {
        let shim = ShimArgs {
            cgroup_root: "/sys/fs/cgroup".into(),
        };
        assert_eq!(parse(shim_command_line(&shim)), Some(Ok(Entry::Shim(shim))));
    }

    #[test]
    fn other_words_are_left_alone() {
        assert_eq!(parse(["up".into()]), None);
        assert_eq!(parse([]), None);
        assert!(matches!(parse(["shim".into()]), Some(Err(_))));
    }

    #[test]
    fn messages_become_one_line_and_come_back() {
        let message = "a\\b\nc";
        assert_eq!(unescape(&escape(message)), message);
        assert!(!escape(message).contains('\n'));
    }
}
