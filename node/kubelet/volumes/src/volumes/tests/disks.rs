//! Disks of local PersistentVolumes, as loop devices over sparse files. As root, with `losetup`, `blkid`, `mkfs.ext4`.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

/// A disk; it goes with this.
struct Disk {
    file: PathBuf,
    device: String,
}

impl Disk {
    fn new(bench: &Bench, name: &str) -> Self {
        let file = bench.volumes.paths.root().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let device = losetup(&["--find", "--show", file.to_str().unwrap()]);
        Self { file, device }
    }

    fn claimed(bench: &Bench, name: &str, local: Value) -> Self {
        let disk = Self::new(bench, name);
        let mut local = local;
        local["path"] = json!(disk.device);
        bench.fake.claim(name, json!({"local": local}));
        disk
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let device = fs::OpenOptions::new().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, at).unwrap();
        device.sync_all().unwrap();
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.device).unwrap()
    }

    /// What is mounted of it, in this mount namespace.
    fn mounts(&self) -> usize {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter(|line| line.contains(&format!(" {} ", self.device)))
            .count()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever a failed test has left mounted.
        for point in mount::below(self.file.parent().unwrap()).unwrap() {
            mount::unmount(&point).unwrap();
        }
        losetup(&["--detach", &self.device]);
    }
}

fn losetup(words: &[&str]) -> String {
    let output = Command::new("losetup").args(words).output().unwrap();
    assert!(output.status.success(), "losetup {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn user(uid: &str, claim: &str, read_only: bool) -> Pod {
    let volume = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}]);
    let mut pod = pod(volume, json!({"securityContext": {"fsGroup": 4321}}));
    pod.metadata.uid = Some(uid.to_owned());
    pod
}

async fn end(bench: &Bench, uid: &str) {
    bench.volumes.release(uid).await.unwrap();
    bench.volumes.tear_down(uid).unwrap();
}

#[tokio::test]
async fn an_empty_disk_is_formatted_once_and_mounted_while_it_is_used() {
    let bench = Bench::new("disk");
    let disk = Disk::claimed(&bench, "data", json!({}));
    let (one, other) = (user("u", "data", false), user("u2", "data", true));
    bench.set_up(&one, 1000).await.unwrap();
    let path = bench.path(&one, "v");
    assert!(
        path.ends_with("pods/u/volumes/kubernetes.io~local-volume/pv-data"),
        "{path:?}"
    );
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let shared = bench
        .volumes
        .paths
        .root()
        .join("plugins/kubernetes.io/local-volume/mounts/pv-data");
    let is_ext4 = |line: &&str| line.contains(shared.to_str().unwrap()) && line.contains("- ext4 ");
    assert!(table.lines().any(|line| is_ext4(&line)), "{table}");
    assert_eq!(fs::metadata(&path).unwrap().gid(), 4321);
    fs::write(path.join("kept"), "x").unwrap();

    bench.set_up(&other, 1000).await.unwrap();
    bench.set_up(&one, 1001).await.unwrap();
    assert_eq!(disk.mounts(), 3, "once for both, and bound to each");
    end(&bench, "u").await;
    assert_eq!(disk.mounts(), 2, "the other still has it");
    assert_eq!(
        fs::read_to_string(bench.path(&other, "v").join("kept")).unwrap(),
        "x"
    );
    end(&bench, "u2").await;
    assert_eq!(disk.mounts(), 0);
    assert!(!shared.exists());

    bench.set_up(&one, 1002).await.unwrap();
    assert_eq!(
        fs::read_to_string(path.join("kept")).unwrap(),
        "x",
        "the data outlives the pods"
    );
    end(&bench, "u").await;
}

#[tokio::test]
async fn two_pods_that_end_at_once_leave_nothing_mounted() {
    let bench = Bench::new("both");
    let disk = Disk::claimed(&bench, "data", json!({"fsType": "ext4"}));
    for uid in ["u", "u2"] {
        bench.set_up(&user(uid, "data", false), 1000).await.unwrap();
    }
    let (one, other) = tokio::join!(bench.volumes.release("u"), bench.volumes.release("u2"));
    one.unwrap();
    other.unwrap();
    assert_eq!(disk.mounts(), 0);
    for uid in ["u", "u2"] {
        bench.volumes.tear_down(uid).unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_holds_anything_is_left_as_it_is() {
    let bench = Bench::new("foreign");
    // A table with one partition.
    let mut table = [0; 66];
    table[4] = 0x83;
    (table[8], table[13]) = (8, 1);
    (table[64], table[65]) = (0x55, 0xaa);
    for (program, kind, expected) in [
        ("", "ext4", "the disk holds DEVNAME="),
        (
            "mkswap",
            "ext4",
            "failed to mount the volume as \"ext4\", it already contains swap",
        ),
        (
            "mkfs.minix",
            "ext4",
            "failed to mount the volume as \"ext4\", it already contains minix",
        ),
        (
            "mkfs.ext4",
            "xfs",
            "failed to mount the volume as \"xfs\", it already contains ext4",
        ),
    ] {
        let disk = Disk::claimed(&bench, "data", json!({"fsType": kind}));
        match program {
            "" => disk.write(446, &table),
            _ => {
                let made = Command::new(program).arg(&disk.device).output().unwrap();
                assert!(made.status.success(), "{program}: {made:?}");
            }
        }
        let before = disk.content();
        let error = bench.set_up(&user("u", "data", false), 1000).await.unwrap_err();
        assert!(error.contains(expected), "{program}: {error}");
        assert!(disk.content() == before, "{program}: the disk was written to");
        end(&bench, "u").await;
    }
}

#[tokio::test]
async fn what_must_not_be_written_to_is_not_formatted() {
    let bench = Bench::new("reading");
    let disk = Disk::claimed(&bench, "data", json!({}));
    let error = bench.set_up(&user("u", "data", true), 1000).await.unwrap_err();
    assert!(
        error.contains("cannot mount unformatted disk as it is read-only"),
        "{error}"
    );
    // Somebody else works with it.
    let holder = {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_EXCL)
            .open(&disk.device)
            .unwrap()
    };
    let error = bench.set_up(&user("u", "data", false), 1000).await.unwrap_err();
    assert!(error.contains("the disk is in use"), "{error}");
    assert!(disk.content().iter().all(|byte| *byte == 0));
    drop(holder);
    bench.set_up(&user("u", "data", false), 1000).await.unwrap();
    end(&bench, "u").await;
}
