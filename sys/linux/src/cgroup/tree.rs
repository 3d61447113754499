//! Making groups, killing what runs in them, removing them with all their descendants.

use std::fs;
use std::io;
use std::path::{Component, Path};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroups, Version};

impl Cgroups {
    /// Creates `group` in every hierarchy; in version 2 with all controllers that its parents can give it.
    ///
    /// # Errors
    /// Those of `mkdir(2)`.
    pub fn create(&self, group: &Path) -> io::Result<()> {
        if self.version == Version::V2 {
            return self.create_unified(group);
        }
        for directory in self.directories(group)? {
            fs::create_dir_all(directory)?;
        }
        Ok(())
    }

    fn create_unified(&self, group: &Path) -> io::Result<()> {
        let mut directory = self.directory("", Path::new("/"));
        for part in group.components().skip_while(|part| *part == Component::RootDir) {
            hand_down(&directory)?;
            directory.push(part);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Processes of `group` and its descendants, in no order; empty when there is no such group.
    ///
    /// # Errors
    /// Those of the reads.
    pub fn processes(&self, group: &Path) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        collect(&self.directory("memory", group), &mut found)?;
        Ok(found)
    }

    /// Sends SIGKILL to all processes of `group` and its descendants, until a pass finds none that is new.
    ///
    /// # Errors
    /// Those of the reads; processes that end meanwhile are no error.
    pub fn kill(&self, group: &Path) -> io::Result<()> {
        if self.version == Version::V2 {
            match self.write("", group, "cgroup.kill", "1") {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => return other,
            }
        }
        let mut seen = std::collections::HashSet::new();
        loop {
            let fresh: Vec<i32> = self
                .processes(group)?
                .into_iter()
                .filter(|pid| seen.insert(*pid))
                .collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for pid in fresh {
                if let Some(pid) = Pid::from_raw(pid) {
                    // Ended meanwhile: that is what was wanted.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }

    /// Removes `group` with its descendants from every hierarchy. Groups that are gone are no error.
    ///
    /// # Errors
    /// `ResourceBusy` while a process is left in one of them.
    pub fn remove(&self, group: &Path) -> io::Result<()> {
        let mut failed = None;
        for directory in self.directories(group)? {
            if let Err(error) = remove_tree(&directory) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether `group` exists in any hierarchy.
    ///
    /// # Errors
    /// Those of listing the hierarchies.
    pub fn exists(&self, group: &Path) -> io::Result<bool> {
        Ok(self
            .directories(group)?
            .iter()
            .any(|directory| directory.exists()))
    }
}

/// Lets the groups below have what this one has. A controller that cannot be had there is left out, as by upstream's
/// libcontainer: one whose processes run in the group itself, or that the kernel keeps for its root.
fn hand_down(directory: &Path) -> io::Result<()> {
    let has = fs::read_to_string(directory.join("cgroup.controllers"))?;
    let gives = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
    for controller in missing(&has, &gives) {
        let asked = super::write_file(
            &directory.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
        // What needs it says so: the file of its limit is not there.
        drop(asked);
    }
    Ok(())
}

/// Names in the first list that are not in the second.
pub(super) fn missing<'a>(has: &'a str, gives: &'a str) -> impl Iterator<Item = &'a str> {
    has.split_whitespace()
        .filter(move |one| !gives.split_whitespace().any(|given| given == *one))
}

fn missing_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A group removed between opening and reading one of its files.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn children(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let Some(entries) = missing_is_none(fs::read_dir(directory))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(entry) = missing_is_none(entry)? else {
            continue;
        };
        if missing_is_none(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let Some(text) = missing_is_none(fs::read_to_string(directory.join("cgroup.procs")))? else {
        return Ok(());
    };
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(directory)? {
        collect(&child, found)?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in children(directory)? {
        remove_tree(&child)?;
    }
    missing_is_none(fs::remove_dir(directory)).map(|_| ())
}
