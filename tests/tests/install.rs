//! `knode install` in a clean root and on a machine with a service manager; the Debian package in and out of a clean
//! root; the units by systemd's own judgement.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use knode_e2e::{Output, binary};
use knode_testkit::{Host, Scratch, require_root};

/// Units may be exposed so much, by `systemd-analyze security` in tenths. A container engine's children inherit what
/// it may not do, so that the node's stays near what upstream's engines have (9.6); a control plane needs nothing.
const NODE_EXPOSURE: u32 = 96;
const SERVER_EXPOSURE: u32 = 25;

fn knode(words: &[&str]) -> Output {
    Output::of(Command::new(binary()).args(words))
}

/// Every path below a directory, with kind, mode and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                open.push(path.clone());
                "directory".to_owned()
            } else if meta.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if meta.len() < 1 << 20 {
                fs::read_to_string(&path).unwrap_or_default()
            } else {
                format!("{} bytes", meta.len())
            };
            all.insert(
                path.strip_prefix(root).unwrap().to_owned(),
                format!("{:o} {content}", meta.mode()),
            );
        }
    }
    all
}

/// Units that ours name, so that systemd finds them; they are not what is judged.
fn systemds_own(root: &Path) {
    let directory = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&directory).unwrap();
    for unit in [
        "basic.target",
        "multi-user.target",
        "network-online.target",
        "network.target",
        "shutdown.target",
        "sysinit.target",
        "system.slice",
        "-.slice",
        "time-sync.target",
        "umount.target",
    ] {
        let own = Path::new("/lib/systemd/system").join(unit);
        if own.exists() {
            fs::copy(own, directory.join(unit)).unwrap();
        }
    }
}

fn judged(root: &Path, unit: &str, exposure: u32) {
    let at = format!("--root={}", root.display());
    let verified =
        Output::of(Command::new("systemd-analyze").args(["verify", &at, "--recursive-errors=no", unit]));
    assert_eq!(verified.code, 0, "{verified}");
    assert!(!verified.stderr.contains(unit), "{verified}");
    let threshold = format!("--threshold={exposure}");
    let words = ["security", "--offline=true", "--no-pager", &at, &threshold, unit];
    let secure = Output::of(Command::new("systemd-analyze").args(words));
    let summary = secure.stdout.lines().last().unwrap_or_default().to_owned();
    println!("{summary}");
    assert_eq!(secure.code, 0, "{summary}");
}

#[test]
fn a_clean_root_is_filled_and_emptied() {
    require_root();
    let scratch = Scratch::new("install");
    let root = scratch.join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    let before = tree(&root);
    let at = root.display().to_string();
    let words = [
        "install",
        "--root",
        &at,
        "--role",
        "kubelet",
        "--role",
        "flanneld",
        "--",
        "up",
        "--node-name",
        "edge-1",
    ];
    let told = knode(&words).ok();
    assert!(told.contains("made /usr/local/bin/knode"), "{told}");
    let filled = tree(&root);
    let has = |path: &str, words: &str| {
        let found = filled
            .get(Path::new(path))
            .unwrap_or_else(|| panic!("{path} in {:#?}", filled.keys()));
        assert!(found.contains(words), "{words:?} in {path}: {found}");
    };
    has("usr/local/bin/kubelet", "knode");
    has(
        "etc/systemd/system/knode.service",
        "ExecStart=/usr/local/bin/knode $KNODE_ARGS",
    );
    has(
        "etc/systemd/system/multi-user.target.wants/knode.service",
        "/etc/systemd/system/knode.service",
    );
    has("etc/default/knode", "KNODE_ARGS=\"up --node-name edge-1\"");
    has("etc/default/knode", "100600");
    has("etc/sysctl.d/90-knode.conf", "net.ipv4.ip_forward = 1");
    has("etc/modules-load.d/knode.conf", "br_netfilter");
    has("var/lib/knode", "directory");
    let version = Output::of(Command::new(root.join("usr/local/bin/knode")).arg("--version")).ok();
    assert!(version.starts_with("knode "), "{version}");

    // Again, as a person does who is not sure: nothing changes, and what it ran stays.
    let again = knode(&["install", "--root", &at]).ok();
    assert!(again.contains("everything is there already"), "{again}");
    assert_eq!(tree(&root), filled);
    // Another command line is taken up; the control plane's unit stands beside it.
    knode(&["install", "--root", &at, "--", "up", "--node-name", "edge-2"]).ok();
    knode(&["install", "--root", &at, "--", "server"]).ok();
    let changed = fs::read_to_string(root.join("etc/default/knode")).unwrap();
    assert!(changed.contains("edge-2"), "{changed}");
    systemds_own(&root);
    judged(&root, "knode.service", NODE_EXPOSURE);
    judged(&root, "knode-server.service", SERVER_EXPOSURE);
    fs::remove_dir_all(root.join("usr/lib")).unwrap();

    knode(&["uninstall", "--root", &at]).ok();
    assert_eq!(tree(&root), before);
    let nothing = knode(&["uninstall", "--root", &at]).ok();
    assert!(nothing.contains("nothing is installed"), "{nothing}");
}

#[test]
fn a_failed_installation_leaves_no_trace() {
    require_root();
    let scratch = Scratch::new("half");
    let root = scratch.join("root");
    let at = root.display().to_string();
    // Somebody else's kubelet.
    fs::create_dir_all(root.join("usr/local/bin")).unwrap();
    fs::write(root.join("usr/local/bin/kubelet"), "theirs").unwrap();
    let before = tree(&root);
    let refused = knode(&["install", "--root", &at, "--role", "kubelet"]).fails();
    assert!(refused.contains("kubelet is not knode's"), "{refused}");
    assert_eq!(tree(&root), before);
    // A file where a directory must be is found in the middle.
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/systemd"), "in the way").unwrap();
    let before = tree(&root);
    let failed = knode(&["install", "--root", &at]).fails();
    assert!(failed.contains("etc/systemd"), "{failed}");
    assert_eq!(tree(&root), before);
}

/// A member and the strings of a method call, as they come over the wire.
type Call = (String, Vec<String>);

/// Takes systemd's part on its private socket: answers every call, and tells of it.
fn manager(path: &Path) -> Receiver<Call> {
    let listener = UnixListener::bind(path).unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            thread::spawn(move || {
                // A peer that leaves ends the conversation.
                let _ = serve(BufReader::new(stream?), |call| drop(tell.send(call)));
                std::io::Result::Ok(())
            });
        }
    });
    told
}

fn serve(mut stream: BufReader<UnixStream>, mut tell: impl FnMut(Call)) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let word = line.trim_start_matches('\0').trim().to_owned();
        match word.split(' ').next() {
            Some("AUTH") => stream
                .get_mut()
                .write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?,
            Some("BEGIN") => break,
            _ => stream.get_mut().write_all(b"ERROR\r\n")?,
        }
    }
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let (body, serial, fields) = (number(4), number(8), number(12));
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        stream.read_exact(&mut rest)?;
        let arguments = rest.split_off(fields.next_multiple_of(8));
        tell((member(&rest), strings(&arguments)));
        // A return without a body; its one field says whose answer it is.
        let mut answer = vec![b'l', 2, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5, 1, b'u', 0];
        answer.extend((serial as u32).to_le_bytes());
        stream.get_mut().write_all(&answer)?;
    }
}

/// Field 3 of the header.
fn member(fields: &[u8]) -> String {
    let at = fields.windows(4).position(|w| w == [3, 1, b's', 0]).unwrap();
    strings(&fields[at + 4..]).remove(0)
}

fn strings(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    let mut read = 0;
    while bytes.len() > 4 {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let Some(text) = bytes.get(4..4 + length) else {
            break;
        };
        all.push(String::from_utf8_lossy(text).into_owned());
        let used = 4 + length + 1;
        let padded = (read + used).next_multiple_of(4) - read;
        read += padded;
        bytes = bytes.get(padded..).unwrap_or_default();
    }
    all
}

/// A machine of its own: this one's files with a layer above them, where systemd seems to run.
struct Machine {
    scratch: Scratch,
    host: Host,
}

impl Machine {
    fn new() -> (Self, Receiver<Call>) {
        let scratch = Scratch::new("machine");
        for directory in ["upper", "work", "root", "run/systemd/system", "run/program"] {
            fs::create_dir_all(scratch.join(directory)).unwrap();
        }
        let calls = manager(&scratch.join("run/systemd/private"));
        let host = Host::new("machine");
        fs::copy(binary(), scratch.join("run/program/knode")).unwrap();
        (Self { scratch, host }, calls)
    }

    /// Runs knode there; its mounts end with it.
    fn knode(&self, words: &str) -> Output {
        let at = |name: &str| self.scratch.join(name).display().to_string();
        let (upper, work, root, run) = (at("upper"), at("work"), at("root"), at("run"));
        let script = format!(
            "set -e; mount -t overlay overlay -o lowerdir=/,upperdir={upper},workdir={work} {root}; \
             mount -t proc proc {root}/proc; mount --rbind /sys {root}/sys; mount --bind {run} {root}/run; \
             exec chroot {root} /run/program/knode {words}"
        );
        let mut command = self.host.command("unshare");
        Output::of(command.args(["--mount", "--propagation", "private", "sh", "-c", &script]))
    }

    /// What is in the layer: what was made there, and what was taken away.
    fn made(&self) -> Vec<String> {
        let files = tree(&self.scratch.join("upper"));
        let files = files.iter().filter(|(_, what)| !what.ends_with("directory"));
        files.map(|(path, _)| path.display().to_string()).collect()
    }
}

fn told(calls: &Receiver<Call>) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok((member, arguments)) = calls.recv_timeout(Duration::from_millis(300)) {
        all.push([vec![member], arguments].concat().join(" "));
    }
    all
}

#[test]
fn systemd_is_asked_over_its_own_socket() {
    require_root();
    let (machine, calls) = Machine::new();
    let installed = machine.knode("install -- server").ok();
    assert!(installed.contains("knode-server.service starts"), "{installed}");
    assert_eq!(told(&calls), ["Reload", "StartUnit knode-server.service replace"]);
    let made = machine.made();
    assert!(
        made.contains(&"etc/systemd/system/knode-server.service".to_owned()),
        "{made:?}"
    );
    let again = machine.knode("install -- server").ok();
    assert!(again.contains("everything is there already"), "{again}");
    assert_eq!(told(&calls), ["StartUnit knode-server.service replace"]);

    let removed = machine.knode("uninstall");
    assert_eq!(removed.code, 0, "{removed}");
    assert_eq!(told(&calls), ["StopUnit knode-server.service replace", "Reload"]);
    assert_eq!(machine.made(), Vec::<String>::new());
}

/// A root in which dpkg can run a package's scripts, and nothing else.
fn bare_root(root: &Path) {
    for directory in [
        "bin",
        "usr/bin",
        "etc",
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "tmp",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    // dpkg takes directories away that nothing else is in.
    for file in ["etc/theirs", "usr/bin/theirs"] {
        fs::write(root.join(file), "").unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "grep", "echo", "["] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    // A real one, with its libraries: it stays on one file system.
    let libraries = Output::of(Command::new("ldd").arg("/bin/rm")).ok();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/rm"]) {
        let place = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, place).unwrap();
    }
}

fn dist(out: &Path) -> (PathBuf, PathBuf) {
    let words = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "xtask",
        "--",
        "dist",
        "--binary",
    ];
    let mut command = Command::new(env!("CARGO"));
    command.args(words).arg(binary()).arg("--out").arg(out);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let made = Output::of(&mut command).ok();
    let mut made = made.lines().map(PathBuf::from);
    (made.next().unwrap(), made.next().unwrap())
}

#[test]
fn the_package_comes_and_goes() {
    require_root();
    let scratch = Scratch::new("package");
    let (package, tarball) = dist(&scratch.join("dist"));
    let root = scratch.join("root");
    bare_root(&root);
    let clean = |root: &Path| {
        let mut all = tree(root);
        all.retain(|path, _| !path.starts_with("var/lib/dpkg") && !path.starts_with("var/log"));
        all
    };
    let before = clean(&root);
    let at = format!("--root={}", root.display());
    let dpkg = |words: &[&str]| {
        let mut command = Command::new("dpkg");
        let forced = ["--force-depends", "--force-unsafe-io", "--log=/dev/null"];
        command
            .arg(&at)
            .args(forced)
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Output::of(&mut command)
    };
    dpkg(&["--install", &package.display().to_string()]).ok();
    let status = dpkg(&["--status", "knode"]).ok();
    for line in [
        "Status: install ok installed",
        "libc6 (>= ",
        "/etc/default/knode ",
    ] {
        assert!(status.contains(line), "{line:?} in {status}");
    }
    let changed = dpkg(&["--verify", "knode"]);
    assert_eq!((changed.code, changed.stdout.as_str()), (0, ""), "{changed}");
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/knode.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/knode $KNODE_ARGS"), "{unit}");
    // Nothing is enabled that nobody asked for.
    assert!(!root.join("etc/systemd").exists());
    systemds_own(&root);
    judged(&root, "knode.service", NODE_EXPOSURE);
    judged(&root, "knode-server.service", SERVER_EXPOSURE);
    for unit in fs::read_dir(root.join("usr/lib/systemd/system")).unwrap() {
        let path = unit.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("knode") {
            fs::remove_file(path).unwrap();
        }
    }

    // A person's change survives another installation and the removal, and goes with the purge.
    let default = root.join("etc/default/knode");
    fs::write(&default, "KNODE_ARGS=\"up --node-name mine\"\n").unwrap();
    dpkg(&["--install", "--force-confold", &package.display().to_string()]).ok();
    dpkg(&["--remove", "knode"]).ok();
    assert!(!root.join("usr/bin/knode").exists());
    assert!(fs::read_to_string(&default).unwrap().contains("mine"));
    fs::create_dir_all(root.join("var/lib/knode")).unwrap();
    fs::write(root.join("var/lib/knode/left"), "data").unwrap();
    dpkg(&["--purge", "knode"]).ok();
    assert_eq!(clean(&root), before);

    let listed = Output::of(
        Command::new("tar")
            .args(["--list", "--verbose", "--file"])
            .arg(&tarball),
    )
    .ok();
    for part in [
        "/knode",
        "README.md",
        "LICENSE",
        "systemd/knode-server.service",
        "sysctl.d/90-knode.conf",
    ] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    let program = listed
        .lines()
        .find(|line| line.ends_with(concat!(env!("CARGO_PKG_VERSION"), "/knode")))
        .unwrap();
    assert!(program.starts_with("-rwxr-xr-x 0/0"), "{program}");
    assert_eq!(
        fs::metadata(root.join("bin/busybox"))
            .unwrap()
            .permissions()
            .mode()
            & 0o111,
        0o111
    );
}
