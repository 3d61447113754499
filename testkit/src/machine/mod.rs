//! A virtual machine with another kernel than the host's: one that gives its controllers to version 2 control groups.
//!
//! It sees the host's files, and what it writes is gone with it. It runs by software emulation, some ten times slower
//! than the host, and has no network.

mod cpio;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::cpio::Archive;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// Where `scripts/debian.sh test` unpacks the kernel.
const KERNEL: &str = "/var/cache/knode-test/kernel";
/// Serves the host's files to the machine; part of Debian's qemu-system-common.
const FILES: &str = "/usr/lib/qemu/virtiofsd";
/// What the kernel needs for its root file system; it finds others itself later.
const MODULES: &[&str] = &["virtio_pci", "virtiofs", "overlay"];
const INIT: &str = include_str!("init.sh");
const INSIDE: &str = include_str!("inside.sh");

/// What a machine has printed, and how its script ended.
#[derive(Debug)]
pub struct Ended {
    /// The console, the kernel's own words among it.
    pub console: String,
    /// The script's status; none where the machine ended without it.
    pub status: Option<i32>,
}

impl Ended {
    /// The console, when the script has ended well.
    ///
    /// # Panics
    /// When it has not, with the console.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.status == Some(0),
            "the script in the machine ended with {:?}:\n{}",
            self.status,
            self.console
        );
        self.console
    }
}

/// Boots a machine, runs `script` by bash as root in it, and waits until it is off. `TMPDIR` is a directory on a disk of
/// its own; of the host's `/run` it sees nothing.
///
/// # Panics
/// When the kernel or the emulator are not installed, or the machine is not off within `bound`.
#[track_caller]
pub fn run(script: &str, bound: Duration) -> Ended {
    run_by("", script, bound)
}

#[track_caller]
fn run_by(words: &str, script: &str, bound: Duration) -> Ended {
    let scratch = Scratch::new("machine");
    let (socket, start) = (scratch.join("files.sock"), scratch.join("initrd"));
    let kernel = Kernel::find();
    fs::write(&start, kernel.start(script)).expect("the scratch directory is ours");
    let mut files = Command::new(FILES);
    files.arg(format!("--socket-path={}", socket.display())).args([
        "-o",
        "source=/",
        "-o",
        "cache=always",
        "-o",
        "sandbox=chroot",
    ]);
    let files = Process::spawn("virtiofsd", files);
    wait_until("the host's files to be served", Duration::from_secs(20), || {
        socket.exists().then_some(()).ok_or_else(|| files.output())
    });
    let mut machine = Process::spawn("qemu", emulator(&kernel.image, words, &start, &socket));
    wait_until("the machine to be off", bound, || {
        machine.exited().map(drop).ok_or_else(|| machine.output())
    });
    let console = machine.output().replace('\r', "");
    let status = console
        .lines()
        .find_map(|line| line.strip_prefix("machine: status ")?.trim().parse().ok());
    Ended { console, status }
}

/// Runs this test program in a machine, with these arguments and two tests at a time, in this directory of the host's.
///
/// # Panics
/// See [`run`].
#[track_caller]
pub fn again(directory: &Path, arguments: &str, environment: &[(&str, &Path)], bound: Duration) -> Ended {
    again_by("", directory, arguments, environment, bound)
}

/// As [`again`], with `words` on the kernel's command line.
///
/// # Panics
/// See [`run`].
#[track_caller]
pub fn again_by(
    words: &str,
    directory: &Path,
    arguments: &str,
    environment: &[(&str, &Path)],
    bound: Duration,
) -> Ended {
    let program = std::env::current_exe().expect("this program has a file");
    let mut script = format!("cd '{}'\n", directory.display());
    for (name, value) in environment {
        script.push_str(&format!("export {name}='{}'\n", value.display()));
    }
    script.push_str(&format!("'{}' --test-threads=2 {arguments}\n", program.display()));
    run_by(words, &script, bound)
}

fn emulator(kernel: &Path, words: &str, start: &Path, socket: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-machine",
            "q35,accel=tcg,memory-backend=mem",
            "-cpu",
            "max",
            "-smp",
            "2",
        ])
        // Files are shared through memory that the one who serves them has mapped, too.
        .args([
            "-m",
            "3G",
            "-object",
            "memory-backend-memfd,id=mem,size=3G,share=on",
        ])
        .args([
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(start)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 {words}"))
        .arg("-chardev")
        .arg(format!("socket,id=files,path={}", socket.display()))
        .args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    command
}

/// A kernel of Debian's, unpacked.
struct Kernel {
    image: PathBuf,
    /// `lib/modules`
    modules: PathBuf,
    /// Below it, with the kernel's version.
    own: PathBuf,
}

impl Kernel {
    #[track_caller]
    fn find() -> Self {
        let root = Path::new(KERNEL);
        let found = |directory: &str, start: &str| {
            let entries = fs::read_dir(root.join(directory)).ok()?;
            let mut names = entries.flatten().map(|entry| entry.path());
            names.find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(start)
            })
        };
        let missing = "there is no kernel for virtual machines: run scripts/debian.sh test";
        Self {
            image: found("boot", "vmlinuz").expect(missing),
            own: found("lib/modules", "").expect(missing),
            modules: root.join("lib/modules"),
        }
    }

    /// What the kernel begins with.
    fn start(&self, script: &str) -> Vec<u8> {
        let mut archive = Archive::default();
        for directory in ["bin", "modules"] {
            archive.directory(directory);
        }
        let read = |path: &Path| {
            fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
        };
        archive.file("bin/busybox", &read(Path::new("/bin/busybox")));
        let mut order = String::new();
        for module in self.needed() {
            let name = module.rsplit('/').next().unwrap_or_default();
            archive.file(&format!("modules/{name}"), &read(&self.own.join(&module)));
            order.push_str(name);
            order.push('\n');
        }
        archive.file("modules/order", order.as_bytes());
        archive.file("init", INIT.as_bytes());
        let inside = INSIDE.replace("@MODULES@", &self.modules.to_string_lossy());
        archive.file("inside.sh", inside.as_bytes());
        archive.file("script.sh", script.as_bytes());
        archive.end()
    }

    /// The modules with those that they need, these first.
    fn needed(&self) -> Vec<String> {
        let table = fs::read_to_string(self.own.join("modules.dep")).expect("depmod has run");
        let mut all = Vec::new();
        for module in MODULES {
            add(&table, &format!("/{module}.ko"), &mut all);
        }
        all
    }
}

/// Adds the module whose path ends so, after those that it needs.
fn add(table: &str, end: &str, all: &mut Vec<String>) {
    let line = table.lines().find_map(|line| {
        let (module, needs) = line.split_once(':')?;
        module.ends_with(end).then_some((module, needs))
    });
    let (module, needs) = line.unwrap_or_else(|| panic!("the kernel has no module {end}"));
    if all.iter().any(|one| one == module) {
        return;
    }
    for needed in needs.split_whitespace() {
        add(table, needed, all);
    }
    all.push(module.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_those_that_they_need() {
        let table = "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/d.ko:\n";
        let mut all = Vec::new();
        add(table, "/a.ko", &mut all);
        add(table, "/d.ko", &mut all);
        assert_eq!(all, ["k/c.ko", "k/b.ko", "k/a.ko", "k/d.ko"]);
    }
}
