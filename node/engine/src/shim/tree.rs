//! Who is whose child, and killing a command with all that it has started.

use std::collections::HashMap;
use std::fs;
use std::io;

use knode_linux::signal::send_raw;

/// Most rounds of killing: each finds what was started during the one before.
const ROUNDS: usize = 1000;

/// Time since the machine was booted, in the hundredths of a second that `/proc` tells.
pub(super) type Ticks = i64;

/// When a process began, `None` for one that has been waited for.
pub(super) fn begun(pid: i32) -> Option<Ticks> {
    begun_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of proc_pid_stat(5).
fn begun_in(stat: &str) -> Option<Ticks> {
    // The first field after the name is the third.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(22 - 3)?
        .parse()
        .ok()
}

/// The parent of a process, `None` for one that has ended.
pub(super) fn parent(pid: i32) -> Option<u32> {
    living(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent in a line of `/proc/<pid>/stat`, `None` for a process that is only waited for any more.
fn living(stat: &str) -> Option<u32> {
    // The name before may have anything in it.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// Those of `parents` (child to parent) that descend from `root`.
fn descendants(root: i32, parents: &HashMap<i32, u32>) -> Vec<i32> {
    let descends = |pid: i32| {
        let mut current = pid;
        // A tree is no deeper than it has members.
        for _ in 0..=parents.len() {
            match parents
                .get(&current)
                .and_then(|parent| i32::try_from(*parent).ok())
            {
                Some(parent) if parent == root => return true,
                Some(parent) => current = parent,
                None => return false,
            }
        }
        false
    };
    parents
        .keys()
        .copied()
        .filter(|pid| *pid != root && descends(*pid))
        .collect()
}

/// Kills `root` and all that descend from it, among `processes`. The root is stopped and dies last, because it takes
/// over orphans (see `entry::executor`): so none gets away.
///
/// # Errors
/// Those of listing processes.
pub(super) fn kill(root: i32, mut processes: impl FnMut() -> io::Result<Vec<i32>>) -> io::Result<()> {
    // Ended processes are what is wanted, here and below.
    let _ = send_raw(root, libc::SIGSTOP);
    for _ in 0..ROUNDS {
        let parents: HashMap<i32, u32> = processes()?
            .into_iter()
            .filter_map(|pid| Some((pid, parent(pid)?)))
            .collect();
        let found = descendants(root, &parents);
        if found.is_empty() {
            break;
        }
        for pid in found {
            let _ = send_raw(pid, libc::SIGKILL);
        }
    }
    send_raw(root, libc::SIGKILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_hide_the_parent() {
        assert_eq!(living("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(living("12 (a) Z 7 12 12 0"), None);
        assert_eq!(living(""), None);
    }

    #[test]
    fn a_process_begins_no_earlier_than_its_parent() {
        let own = i32::try_from(std::process::id()).unwrap();
        let above = i32::try_from(parent(own).unwrap()).unwrap();
        assert!(begun(above) <= begun(own), "{:?} {:?}", begun(above), begun(own));
        assert_eq!(begun(i32::MAX), None);
        assert_eq!(
            begun_in("1 (a) b) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 7 8"),
            Some(7)
        );
    }

    #[test]
    fn the_whole_tree_is_found_and_nothing_else() {
        let parents: HashMap<i32, u32> = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 6)].into();
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(descendants(9, &parents), [0; 0]);
    }
}
