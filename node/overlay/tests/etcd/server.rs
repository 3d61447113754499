#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use knode_netlink::{Handle, LinkChange, Netns, change_link};
use knode_overlay::{Access, Credentials, Etcd, Tls};
use knode_pki::{CertificateAuthority, Profile, Subject, SubjectAltNames, Usage};

/// Members of etcd on the loopback of a namespace of their own. Everything ends with it.
pub struct Cluster {
    pub netns: Netns,
    directory: PathBuf,
    members: Vec<Option<Child>>,
    secure: bool,
    address: String,
}

const UP: LinkChange<'static> = LinkChange {
    up: Some(true),
    mtu: None,
    mac: None,
    master: None,
    hairpin: None,
    promiscuous: None,
    name: None,
    netns: None,
    group: None,
};

impl Cluster {
    pub fn start(members: usize, secure: bool) -> Self {
        let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
        Handle::open_in(&netns)
            .unwrap()
            .execute(change_link("lo", &UP))
            .unwrap();
        Self::start_in(netns, "127.0.0.1", members, secure)
    }

    /// One member on a host, at this address of it.
    pub fn start_at(netns: Netns, address: &str) -> Self {
        Self::start_in(netns, address, 1, false)
    }

    fn start_in(netns: Netns, address: &str, members: usize, secure: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("knode-etcd-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut cluster = Self {
            netns,
            directory,
            members: (0..members).map(|_| None).collect(),
            secure,
            address: address.to_owned(),
        };
        if secure {
            cluster.certificates();
        }
        for n in 0..members {
            cluster.run(n);
        }
        cluster.settle();
        cluster
    }

    /// Starts a member, again with the data that it has.
    pub fn run(&mut self, n: usize) {
        let scheme = if self.secure { "https" } else { "http" };
        let (client, peer) = (self.endpoint(n), |n: usize| {
            format!("{scheme}://{}:{}", self.address, 2380 + 10 * n)
        });
        let all: Vec<_> = (0..self.members.len())
            .map(|n| format!("m{n}={}", peer(n)))
            .collect();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{n}")])
            .arg("--data-dir")
            .arg(self.directory.join(format!("m{n}")))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer(n),
                "--initial-advertise-peer-urls",
                &peer(n),
            ])
            .args([
                "--initial-cluster",
                &all.join(","),
                "--initial-cluster-state",
                "new",
            ])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap", "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if scheme == "https" {
            let file = |name: &str| self.directory.join(name);
            command.arg("--client-cert-auth");
            command.arg("--trusted-ca-file").arg(file("ca.crt"));
            command.arg("--cert-file").arg(file("server.crt"));
            command.arg("--key-file").arg(file("server.key"));
            command.arg("--peer-trusted-ca-file").arg(file("ca.crt"));
            command.arg("--peer-cert-file").arg(file("server.crt"));
            command.arg("--peer-key-file").arg(file("server.key"));
        }
        let child = self.netns.run(|| command.spawn()).unwrap();
        self.members[n] = Some(child.expect("these tests need Debian's etcd-server"));
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, n: usize) {
        let mut child = self.members[n].take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The member that leads.
    pub fn leader(&self) -> usize {
        let status = self.ctl(&["endpoint", "status", "--write-out", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let led = |s: &serde_json::Value| s["Status"]["leader"] == s["Status"]["header"]["member_id"];
        status.as_array().unwrap().iter().position(led).expect("a leader")
    }

    /// Waits until the cluster takes writes.
    pub fn settle(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let (done, said) = self.try_ctl(&["endpoint", "health"]);
            if done {
                return;
            }
            assert!(Instant::now() < end, "etcd did not come up; it says {said}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    pub fn endpoint(&self, n: usize) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.address, 2379 + 10 * n)
    }

    pub fn access(&self) -> Access {
        let tls = Tls {
            authorities: Some(self.directory.join("ca.crt")),
            certificate: Some(self.directory.join("client.crt")),
            key: Some(self.directory.join("client.key")),
        };
        Access {
            endpoints: (0..self.members.len()).map(|n| self.endpoint(n)).collect(),
            tls: if self.secure { tls } else { Tls::default() },
            credentials: None,
        }
    }

    pub fn client(&self) -> Etcd {
        Etcd::new(self.access()).unwrap()
    }

    pub fn client_as(&self, user: &str, password: &str) -> Etcd {
        let credentials = Some(Credentials {
            user: user.into(),
            password: password.into(),
        });
        let access = self.access();
        Etcd::new(Access {
            credentials,
            ..access
        })
        .unwrap()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What etcdctl says.
    pub fn ctl(&self, args: &[&str]) -> String {
        let (done, said) = self.try_ctl(args);
        assert!(done, "etcdctl {args:?}: {said}");
        said
    }

    fn try_ctl(&self, args: &[&str]) -> (bool, String) {
        let running = (0..self.members.len()).filter(|n| self.members[*n].is_some());
        let endpoints: Vec<_> = running.map(|n| self.endpoint(n)).collect();
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints.join(",")]);
        if self.secure {
            let file = |name: &str| self.directory.join(name);
            command.arg("--cacert").arg(file("ca.crt"));
            command.arg("--cert").arg(file("client.crt"));
            command.arg("--key").arg(file("client.key"));
        }
        let output = self.netns.run(|| command.args(args).output()).unwrap();
        let output = output.expect("these tests need Debian's etcd-client");
        let said = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Makes an authority and certificates, in place of those that are there.
    pub fn certificates(&self) {
        let (now, year) = (jiff::Timestamp::now(), Duration::from_secs(365 * 24 * 3600));
        let ca = CertificateAuthority::create("etcd", now).unwrap();
        let write = |name: &str, text: &str| std::fs::write(self.directory.join(name), text).unwrap();
        write("ca.crt", ca.cert_pem());
        let names = SubjectAltNames {
            ips: vec!["127.0.0.1".parse().unwrap()],
            ..SubjectAltNames::default()
        };
        let mut server = Profile::server(Subject::new("etcd", &[]), names, year);
        // To one another the members are clients, too.
        server.usages.push(Usage::ClientAuth);
        let client = Profile::client(Subject::new("flannel", &[]), year);
        for (name, profile) in [("server", server), ("client", client)] {
            let identity = ca.issue(&profile, now).unwrap();
            write(&format!("{name}.crt"), &identity.cert_pem);
            write(&format!("{name}.key"), &identity.key_pem);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.members.iter_mut().filter_map(Option::take) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        // What is left lies below the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
