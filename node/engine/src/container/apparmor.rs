//! What the kernel's AppArmor has, and the profile that it is given for containers.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{EngineError, Result};
use crate::spec::{AppArmor, DEFAULT_PROFILE};

/// The one program that makes of a profile's text what the kernel takes; part of AppArmor itself.
const PARSERS: [&str; 2] = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];

/// What the profile allows and what not: everything that others of the container's defences leave, but writing to what of
/// `/proc` and `/sys` is the machine's, mounting, and whatever concerns processes outside of containers.
const RULES: &str = include_str!("apparmor.profile");

/// What the kernel has now, `None` without AppArmor; profiles come and go.
pub(crate) fn look() -> Option<AppArmor> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.trim() == "Y").then(|| AppArmor {
        profiles: profiles(),
        loads: parser().is_some(),
    })
}

fn profiles() -> Vec<String> {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    let name = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_string());
    loaded.lines().filter_map(name).collect()
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|path| Path::new(path).exists())
}

/// Loads the runtime's own profile if that is the one which is wanted and it is not there.
///
/// # Errors
/// The words of the program that loads it.
pub(crate) fn ensure_profile(wanted: Option<&str>, apparmor: Option<&AppArmor>) -> Result<()> {
    let there = apparmor.is_some_and(|apparmor| apparmor.profiles.iter().any(|name| name == DEFAULT_PROFILE));
    if wanted != Some(DEFAULT_PROFILE) || there {
        return Ok(());
    }
    let load = || load(parser().ok_or(io::ErrorKind::NotFound)?);
    load().map_err(|source| EngineError::Profile {
        profile: DEFAULT_PROFILE,
        source,
    })
}

fn load(parser: &str) -> io::Result<()> {
    let mut parser = Command::new(parser)
        // What it reads is written by this program: nothing to cache; and it may be there from an earlier one.
        .args(["--skip-cache", "--replace", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = match parser.stdin.take() {
        Some(mut text) => text.write_all(RULES.as_bytes()),
        None => Ok(()),
    };
    let ended = parser.wait_with_output()?;
    if !ended.status.success() {
        let words = String::from_utf8_lossy(&ended.stderr);
        return Err(io::Error::other(format!("{}: {}", ended.status, words.trim())));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_the_name_that_containers_ask_for() {
        assert!(RULES.contains(&format!("profile {DEFAULT_PROFILE} ")));
    }
}
