//! What every containerd of a test's own needs: a configuration below one directory, and an end that leaves nothing.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Configuration of a containerd with Debian's runc that keeps everything below `directory`: its socket is `c.sock`, its
/// plugins are in `bin`, their configuration is in `net.d`. `pause` is the image of pods' sandboxes.
pub fn config(directory: &Path, pause: &str) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{runc}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin}"
    conf_dir = "{conf}"
"#,
        root = path("root"),
        state = path("state"),
        socket = path("c.sock"),
        opt = path("opt"),
        runc = path("runc"),
        bin = path("bin"),
        conf = path("net.d"),
    )
}

/// The same configuration, for control groups that systemd makes.
pub fn by_systemd(config: &str) -> String {
    let options = "runtimes.runc.options]\n";
    config.replace(options, &format!("{options}    SystemdCgroup = true\n"))
}

/// Ends what outlives a containerd that kept everything below `directory`: shims, and the directories of their sockets.
pub fn end_shims(directory: &Path) {
    // They would hold what they have mounted.
    for id in processes_with(directory) {
        // It may have ended by itself meanwhile.
        let _gone = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
    // Where shims of every containerd have their sockets; if there are others, it stays.
    for shared in ["/run/containerd/s", "/run/containerd"] {
        let _in_use = std::fs::remove_dir(shared);
    }
}

/// Processes that have a path in their command line.
fn processes_with(path: &Path) -> Vec<i32> {
    let path = path.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let named = |id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&path)
    };
    ids.filter(named).collect()
}
