//! A systemd of a test's own: process 1 of its own PID, mount, control group, IPC and UTS namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};

use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// Long for a machine that runs other tests at the same time.
const BOUND: Duration = Duration::from_secs(60);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Moves itself into a group of its own in every hierarchy, which the namespace makes the root. `$1` is its name, and
/// the rest what is executed there.
const JOIN: &str = r#"
set -e
group=$1; shift
# Version 2 gives to a group only what the one above hands down.
tops="/sys/fs/cgroup"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control || true
  done
  # Where systemd itself went, so that it can hand down what it has.
  if [ -d "/sys/fs/cgroup/$group/init.scope" ]; then group=$group/init.scope; fi
else
  tops="/sys/fs/cgroup/*"
fi
for top in $tops; do
  [ -e "$top/cgroup.procs" ] && [ ! -L "$top" ] || continue
  if [ ! -d "$top/$group" ]; then
    mkdir "$top/$group"
    for file in cpuset.cpus cpuset.mems; do
      if [ -e "$top/$file" ]; then cat "$top/$file" > "$top/$group/$file" || true; fi
    done
  fi
  echo $$ > "$top/$group/cgroup.procs"
done
exec "$@"
"#;

/// Gives systemd file systems of its own, and nothing to start. `$1` is a directory for what it writes into `/etc`.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /proc
# What a machine's systemd would set for all.
mount --bind /proc/sys/fs /proc/sys/fs
mount -o remount,bind,ro /proc/sys/fs
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/test.target
hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 ":" $3 ":" $4 }' /proc/self/mounts)
umount -R -l /sys/fs/cgroup
case "$hierarchies" in
  /sys/fs/cgroup:cgroup2:*) ;;
  *) mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup ;;
esac
for entry in $hierarchies; do
  IFS=: read -r point type options <<E
$entry
E
  names=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|nsdelegate|memory_.*|xattr|release_agent=.*|clone_children)$' | paste -sd,)
  case "$names" in name=*) names="none,$names" ;; esac
  mkdir -p "$point"
  mount -t "$type" ${names:+-o "$names"} cgroup "$point"
done
export container=test SYSTEMD_GENERATOR_PATH=/run/none
export SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/run/systemd/system
exec /lib/systemd/systemd --unit=test.target --show-status=no --log-target=null
"#;

/// Namespaces that are its own, by the options of `unshare` and `nsenter`.
const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--cgroup", "--ipc", "--uts"];

/// A systemd that does nothing but manage units. Dropping it kills all that runs in it and removes its groups.
#[derive(Debug)]
pub struct Systemd {
    process: Option<Process>,
    pid: u32,
    group: String,
    _etc: Scratch,
}

impl Systemd {
    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// Without root, and when it does not start (Debian's package systemd).
    #[track_caller]
    pub fn start() -> Self {
        crate::require_root();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = format!("knode-systemd-{}-{number}", std::process::id());
        let etc = Scratch::new("systemd");
        let mut command = Command::new("sh");
        command.args(["-c", JOIN, "sh", &group, "unshare"]);
        command.args(NAMESPACES).args(["--fork", "--kill-child", "--"]);
        command.args(["sh", "-c", BOOT, "sh"]).arg(etc.path());
        let mut systemd = Self {
            process: Some(Process::spawn("systemd", command)),
            pid: 0,
            group,
            _etc: etc,
        };
        systemd.pid = wait_until("systemd to listen", BOUND, || systemd.listening());
        systemd.leave_to_itself();
        systemd
    }

    /// In version 2 a group hands nothing down while a process is left in it, such as the one that has made its
    /// namespaces.
    fn leave_to_itself(&self) {
        let (top, made_by) = (Path::new(DEFAULT_ROOT), self.process.as_ref().map(Process::id));
        if let Some(pid) = made_by.filter(|_| top.join("cgroup.controllers").exists()) {
            let moved = std::fs::write(top.join("cgroup.procs"), pid.to_string());
            moved.expect("processes can be moved to the top");
        }
    }

    fn listening(&mut self) -> Result<u32, String> {
        let Some(process) = &mut self.process else {
            return Err("no process".into());
        };
        if let Some(status) = process.exited() {
            panic!("systemd does not start: {status}: {}", process.output());
        }
        let pid = child_of(process.id()).ok_or_else(|| process.output())?;
        // Until it is executed the root there is the machine's, whose own systemd is none of a test's.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() != "systemd" {
            return Err(format!("{name}: {}", process.output()));
        }
        let socket = PathBuf::from(format!("/proc/{pid}/root{}", knode_dbus::systemd::PRIVATE));
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => Ok(pid),
            Err(error) => Err(format!("{}: {error}: {}", socket.display(), process.output())),
        }
    }

    /// Its root directory, seen from here. Its socket is not for processes outside of its namespaces.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    /// The directory of a control group, named as inside, in a hierarchy, seen from here.
    pub fn group(&self, controller: &str, group: &Path) -> PathBuf {
        let cgroups = cgroups();
        let inside = Path::new(&self.group).join(group.strip_prefix("/").unwrap_or(group));
        cgroups.directory(controller, &inside)
    }

    /// The words that execute what follows them among its processes, with the network of whoever executes them. The
    /// process is the child of the one that is executed.
    pub fn prefix(&self) -> Vec<String> {
        let mut words = ["sh", "-c", JOIN, "sh", &self.group, "nsenter", "--target"]
            .map(str::to_owned)
            .to_vec();
        words.push(self.pid.to_string());
        words.extend(NAMESPACES.map(str::to_owned));
        words.push("--".to_owned());
        words
    }

    /// The slices that it knows, by name.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn slices(&self) -> Vec<String> {
        let listed = self.run(
            "systemctl",
            &["list-units", "--all", "--type=slice", "--plain", "--no-legend"],
        );
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect()
    }

    /// Runs a program inside to its end; what it prints.
    ///
    /// # Panics
    /// When it cannot be started or fails.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut words = self.prefix();
        let first = words.remove(0);
        words.push(program.to_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        crate::netns::run(&first, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Process 1 dies with it, and all others with that.
        self.process = None;
        let cgroups = cgroups();
        let group = Path::new("/").join(&self.group);
        let removed = || {
            cgroups.kill(&group)?;
            cgroups.remove(&group)
        };
        let start = std::time::Instant::now();
        while let Err(error) = removed() {
            if start.elapsed() > BOUND {
                eprintln!("systemd: cannot remove {}: {error}", self.group);
                return;
            }
            crate::wait::pause();
        }
    }
}

fn cgroups() -> Cgroups {
    Cgroups::detect(DEFAULT_ROOT.as_ref())
        .unwrap_or_else(|error| panic!("this test needs control groups: {error}"))
}

/// The first child of a process.
pub fn child_of(process: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_scopes_and_leaves_nothing() {
        let systemd = Systemd::start();
        let words = [
            "--scope",
            "--quiet",
            "-p",
            "Slice=a-b.slice",
            "--unit=x",
            "cat",
            "/proc/self/cgroup",
        ];
        let inside = systemd.run("systemd-run", &words);
        assert!(inside.contains("memory:/a.slice/a-b.slice/x.scope\n"), "{inside}");
        let group = systemd.group("memory", Path::new("/a.slice"));
        assert!(group.is_dir(), "{}", group.display());
        drop(systemd);
        assert!(!group.parent().unwrap().exists());
    }
}
