//! A node with a directory of configurations, pods, and plugins that keep books.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_cni::{Attachment, Capabilities, Cni, Config};
use knode_testkit::Scratch;
use serde_json::Value;

pub const BOUND: Duration = Duration::from_secs(20);

/// Directories of a node.
pub struct Node {
    pub scratch: Scratch,
}

impl Node {
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        for dir in ["net.d", "bin"] {
            fs::create_dir(scratch.join(dir)).unwrap();
        }
        Self { scratch }
    }

    /// Puts a configuration there, at once.
    pub fn conf(&self, name: &str, text: &str) {
        let temporary = self.scratch.join(format!(".{name}"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.conf_dir().join(name)).unwrap();
    }

    pub fn conf_dir(&self) -> PathBuf {
        self.scratch.join("net.d")
    }

    pub fn bin_dir(&self) -> PathBuf {
        self.scratch.join("bin")
    }

    pub fn config(&self) -> Config {
        let bin = vec![self.bin_dir(), "/usr/lib/cni".into()];
        Config::new(Some(self.conf_dir()), bin, self.scratch.join("cache"))
    }

    /// The client, as a new process would have it.
    pub fn cni(&self) -> Cni {
        Cni::open(self.config()).unwrap()
    }

    /// What is recorded as attached.
    pub fn records(&self) -> Vec<String> {
        names(&self.scratch.join("cache/results"))
    }

    /// A plugin that keeps books.
    pub fn plugin(&self, name: &str) -> Plugin {
        let path = self.bin_dir().join(name);
        script(&path, BOOKKEEPER);
        Plugin { path }
    }

    /// A plugin that does this.
    pub fn script(&self, name: &str, body: &str) {
        script(&self.bin_dir().join(name), body);
    }

    /// All calls of all plugins since the last look.
    pub fn calls(&self) -> Vec<String> {
        let file = self.bin_dir().join("calls");
        let text = fs::read_to_string(&file).unwrap_or_default();
        // Not there before the first call.
        let _ = fs::remove_file(&file);
        text.lines().map(str::to_owned).collect()
    }
}

/// A container as the engine would have it attached.
pub fn attachment(id: &str, netns: impl Into<PathBuf>) -> Attachment {
    with(id, netns, Capabilities::default())
}

pub fn with(id: &str, netns: impl Into<PathBuf>, capabilities: Capabilities) -> Attachment {
    let args = [("IgnoreUnknown", "1"), ("K8S_POD_NAME", id)];
    Attachment {
        container_id: id.to_owned(),
        netns: netns.into(),
        interface: "eth0".to_owned(),
        args: args.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        capabilities: capabilities.into_map(),
    }
}

/// An error with its causes.
pub fn told(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|e| format!(": {}", told(e)));
    format!("{error}{}", source.unwrap_or_default())
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A plugin whose books can be read: what it holds, and what it was told last.
pub struct Plugin {
    path: PathBuf,
}

impl Plugin {
    /// The containers that it holds.
    pub fn holds(&self) -> Vec<String> {
        names(&self.beside("held"))
    }

    /// Its input at the last call of this command.
    pub fn told(&self, command: &str) -> Value {
        let path = self.beside(command);
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_slice(&text).unwrap()
    }

    /// Its environment at the last call of this command.
    pub fn environment(&self, command: &str) -> String {
        fs::read_to_string(self.beside(&format!("{command}.env"))).unwrap()
    }

    /// From now on it fails at this command, saying this; or does not any more.
    pub fn fails(&self, command: &str, saying: Option<&str>) {
        let path = self.beside(&format!("{command}.fails"));
        match saying {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// Says other versions.
    pub fn speaks(&self, version: &str) {
        fs::write(self.beside("speaks"), version).unwrap();
    }

    fn beside(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("{}.{what}", self.path.display()))
    }
}

/// Refuses what an engine must not do: to attach twice, and to check what is not attached.
const BOOKKEEPER: &str = r#"
me=$0; dir=$(dirname "$0"); held=$me.held; mkdir -p "$held"
cat > "$me.$CNI_COMMAND"
env | grep ^CNI_ > "$me.$CNI_COMMAND.env"
[ "$CNI_COMMAND" = VERSION ] || echo "$CNI_COMMAND $(basename "$me") $CNI_CONTAINERID" >> "$dir/calls"
if [ -e "$me.$CNI_COMMAND.fails" ]; then cat "$me.$CNI_COMMAND.fails"; exit 1; fi
wrong() { echo "{\"code\":100,\"msg\":\"$1\"}"; exit 1; }
case $CNI_COMMAND in
VERSION)
  versions='"0.3.1","0.4.0","1.0.0","1.1.0"'
  [ -e "$me.speaks" ] && versions="\"$(cat "$me.speaks")\""
  echo "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[$versions]}" ;;
ADD)
  [ -e "$held/$CNI_CONTAINERID" ] && wrong "attached already"
  : > "$held/$CNI_CONTAINERID"
  echo '{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}],"dns":{"domain":"'"$(basename "$me")"'"}}' ;;
DEL) rm -f "$held/$CNI_CONTAINERID" ;;
CHECK) [ -e "$held/$CNI_CONTAINERID" ] || wrong "not attached" ;;
GC)
  for one in "$held"/*; do
    [ -e "$one" ] || continue
    grep -q "\"containerID\":\"$(basename "$one")\"" "$me.GC" || rm "$one"
  done ;;
STATUS) ;;
*) wrong "what is $CNI_COMMAND" ;;
esac
"#;
