//! A host with a registry and the daemon under test.

use knode_testkit::image::{Image, ImageBuilder, Layer, busybox};
use knode_testkit::{Host, Registry};

use crate::support::daemon::Daemon;

/// Group `50000` of the image has user 1000.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n";

/// Before the daemon is there.
pub struct Prepared {
    host: Host,
}

/// With the daemon, seen from inside the host.
pub struct Machine<'a> {
    pub daemon: Daemon,
    registry: Registry<'a>,
    network: bool,
}

impl Machine<'_> {
    #[allow(clippy::new_ret_no_self, reason = "the daemon comes later, inside the host")]
    pub fn new() -> Prepared {
        Prepared {
            host: Host::new("critest"),
        }
    }

    /// Pods' addresses answer.
    pub fn has_network(&self) -> bool {
        self.network
    }

    /// A name in the registry.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.registry.address())
    }

    /// The same name in what counts as another registry.
    pub fn name_elsewhere(&self, repository: &str) -> String {
        self.name(repository).replace("127.0.0.1", "localhost")
    }

    pub async fn end(self) {
        self.daemon.clear().await;
        self.daemon.assert_clean("the suite");
    }
}

impl Prepared {
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub async fn start(&self) -> Machine<'_> {
        let registry = Registry::start(&self.host);
        fill(&registry);
        let program = std::env::var("KNODE_BIN").ok();
        let network = program.is_some();
        let path = self.host.path().display().to_string();
        let prefix = ["nsenter".into(), format!("--net={path}"), "--".into()];
        let daemon = match program {
            None => Daemon::within("critest", &prefix).await,
            Some(program) => Daemon::of_program("critest", &prefix, &program).await,
        };
        Machine {
            daemon,
            registry,
            network,
        }
    }
}

fn fill(registry: &Registry) {
    for tag in [
        "test-image-tag:test",
        "test-image-tag:all",
        "test-image-latest:latest",
        "pause:3.9",
    ] {
        push(registry, &labelled(tag), tag);
    }
    for tag in ["test-image-tags:1", "test-image-tags:2", "test-image-tags:3"] {
        push(registry, &labelled("tags"), tag);
    }
    for number in ["1", "2", "3"] {
        push(
            registry,
            &labelled(number),
            &format!("test-image-{number}:latest"),
        );
    }
    push(registry, &labelled("digest"), "test-image-digest:latest");
    for (name, user) in [
        ("uid", "1002"),
        ("username", "www-data"),
        ("uid-group", "1003:users"),
        ("username-group", "www-data:100"),
    ] {
        let image = busybox().set("User", user).build();
        push(registry, &image, &format!("test-image-user-{name}:latest"));
    }
    let users = Layer::new()
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, PASSWD)
        .file("etc/group", 0o644, GROUP);
    let groups = busybox().layer(users).set("User", "default-user").build();
    push(registry, &groups, "test-image-predefined-group:latest");
    push(registry, &setuid().build(), "nonewprivs:1.3");
}

fn push(registry: &Registry, image: &Image, name: &str) {
    let (repository, tag) = name.split_once(':').unwrap();
    registry.push_as(image, repository, tag);
}

/// An image that is like no other.
pub fn labelled(label: &str) -> Image {
    busybox()
        .set("Labels", serde_json::json!({ "is": label }))
        .build()
}

/// Busybox with a program that runs as root whoever starts it, and prints a file.
fn setuid() -> ImageBuilder {
    let mut layer = Layer::new()
        .dir("lib", 0o755)
        .dir("lib/x86_64-linux-gnu", 0o755)
        .dir("lib64", 0o755)
        .file(
            "bin/print-as-root",
            0o4755,
            std::fs::read("/usr/bin/cat").unwrap(),
        );
    for library in ["lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"] {
        layer = layer.file(library, 0o755, std::fs::read(format!("/{library}")).unwrap());
    }
    busybox().layer(layer)
}
