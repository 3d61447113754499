//! What an installation consists of, and what becomes of each part where something is already; pure.

use std::path::{Path, PathBuf};

use super::assets::{self, Service};

/// Where the binary and its links lie.
pub const BIN_DIR: &str = "/usr/local/bin";
/// The binary's place.
pub const BINARY: &str = "/usr/local/bin/knode";
/// Configuration of ours.
pub const CONFIG_DIR: &str = "/etc/knode";
/// What an installation has made, for its end.
pub const MANIFEST: &str = "/etc/knode/install.json";
const UNIT_DIR: &str = "/etc/systemd/system";

/// Programs whose part the binary takes when it is called by their name.
pub const ROLES: [&str; 4] = ["kubelet", "kube-proxy", "flanneld", "mk-docker-opts"];

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The unit.
    pub service: Service,
    /// What it runs, in one line; none leaves an environment file that is there as it is.
    pub arguments: Option<String>,
    /// The data directory.
    pub data: PathBuf,
    /// The binary to copy.
    pub source: PathBuf,
    /// Links by these names to the binary.
    pub roles: Vec<String>,
    /// Whether the unit is started with the machine.
    pub enable: bool,
}

/// One thing that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its absolute path on the installed machine.
    pub path: PathBuf,
    pub kind: Kind,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory with this mode.
    Directory(u32),
    /// A file with this text and mode.
    File { text: String, mode: u32 },
    /// A file that a person may have changed: made where it is missing.
    Default { text: String, mode: u32 },
    /// A copy of a program, mode 0755.
    Program(PathBuf),
    /// A symbolic link to a target.
    Link(PathBuf),
}

/// What stands at an item's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// The very same.
    Same,
    /// Something else.
    Other,
}

/// What is done about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Make,
    Keep,
    Replace,
    /// Others' things are not overwritten.
    Refuse,
}

impl Item {
    fn new(path: impl Into<PathBuf>, kind: Kind) -> Self {
        Self {
            path: path.into(),
            kind,
        }
    }

    /// What is done where `seen` stands; `ours`: an earlier installation has made it.
    pub fn judge(&self, seen: Seen, ours: bool, force: bool) -> Verdict {
        match (&self.kind, seen) {
            (_, Seen::Nothing) => Verdict::Make,
            (_, Seen::Same) | (Kind::Default { .. }, Seen::Other) => Verdict::Keep,
            (Kind::Directory(_), Seen::Other) => Verdict::Refuse,
            _ if ours || force => Verdict::Replace,
            _ => Verdict::Refuse,
        }
    }
}

/// Everything that is made, parents first.
pub fn items(wish: &Wish) -> Vec<Item> {
    let file = |path: &str, text: &str| {
        let (text, mode) = (text.to_owned(), 0o644);
        Item::new(path, Kind::File { text, mode })
    };
    let directory = |path: &Path, mode| Item::new(path, Kind::Directory(mode));
    let mut all = vec![
        directory(Path::new(CONFIG_DIR), 0o755),
        directory(&wish.data, 0o755),
        Item::new(BINARY, Kind::Program(wish.source.clone())),
    ];
    all.extend(wish.roles.iter().map(|role| {
        let link = Path::new(BIN_DIR).join(role);
        Item::new(link, Kind::Link("knode".into()))
    }));
    if wish.service.pods {
        all.push(file("/etc/modules-load.d/knode.conf", assets::MODULES));
        all.push(file("/etc/sysctl.d/90-knode.conf", assets::SYSCTLS));
    }
    all.push(environment(wish));
    let unit = wish
        .service
        .unit(BINARY, &wish.data.display().to_string(), CONFIG_DIR);
    let place = Path::new(UNIT_DIR).join(wish.service.unit);
    all.push(file(&place.display().to_string(), &unit));
    if wish.enable {
        let link = Path::new(UNIT_DIR)
            .join("multi-user.target.wants")
            .join(wish.service.unit);
        all.push(Item::new(link, Kind::Link(place)));
    }
    all
}

/// The unit's environment. A join token may stand in it, so that nobody else reads it.
fn environment(wish: &Wish) -> Item {
    let path = Path::new("/etc/default").join(wish.service.environment);
    let (mode, service) = (0o600, &wish.service);
    match &wish.arguments {
        Some(arguments) => {
            let text = service.environment(arguments);
            Item::new(path, Kind::File { text, mode })
        }
        None => {
            let text = service.environment(if service.pods { "up" } else { "server" });
            Item::new(path, Kind::Default { text, mode })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(arguments: Option<&str>) -> Wish {
        Wish {
            service: assets::NODE,
            arguments: arguments.map(str::to_owned),
            data: "/srv/k".into(),
            source: "/tmp/knode".into(),
            roles: vec!["kubelet".into()],
            enable: true,
        }
    }

    fn paths(wish: &Wish) -> Vec<String> {
        let all = items(wish);
        all.iter().map(|item| item.path.display().to_string()).collect()
    }

    #[test]
    fn a_node_has_its_settings_and_a_control_plane_alone_has_none() {
        let node = paths(&wish(None));
        for path in [
            "/usr/local/bin/knode",
            "/usr/local/bin/kubelet",
            "/etc/sysctl.d/90-knode.conf",
            "/etc/modules-load.d/knode.conf",
            "/etc/systemd/system/knode.service",
            "/etc/systemd/system/multi-user.target.wants/knode.service",
            "/srv/k",
        ] {
            assert!(node.iter().any(|p| p == path), "{path} in {node:?}");
        }
        let server = paths(&Wish {
            service: assets::SERVER,
            enable: false,
            ..wish(None)
        });
        assert!(
            !server.iter().any(|p| p.contains("sysctl") || p.contains("wants")),
            "{server:?}"
        );
    }

    #[test]
    fn what_a_person_has_changed_stays_unless_told_anew() {
        let kept = environment(&wish(None));
        assert_eq!(kept.judge(Seen::Other, true, false), Verdict::Keep);
        let told = environment(&wish(Some("up --node-name a")));
        assert_eq!(told.judge(Seen::Other, true, false), Verdict::Replace);
        assert_eq!(told.judge(Seen::Same, true, false), Verdict::Keep);
    }

    #[test]
    fn others_files_are_refused() {
        let link = Item::new("/usr/local/bin/kubelet", Kind::Link("knode".into()));
        assert_eq!(link.judge(Seen::Other, false, false), Verdict::Refuse);
        assert_eq!(link.judge(Seen::Other, false, true), Verdict::Replace);
        assert_eq!(link.judge(Seen::Other, true, false), Verdict::Replace);
        assert_eq!(link.judge(Seen::Nothing, false, false), Verdict::Make);
        let directory = Item::new("/srv/k", Kind::Directory(0o755));
        assert_eq!(
            directory.judge(Seen::Other, true, true),
            Verdict::Refuse,
            "a file is no directory"
        );
    }
}
