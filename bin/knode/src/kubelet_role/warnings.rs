//! What was right in 2017 and is not any more: old units and credentials, each with the right way.

use std::net::IpAddr;
use std::path::Path;

use knode_pki::kubeconfig::Access;
use knode_pki::{BootstrapToken, Certificate, Usage};

/// Where units of services lie, in systemd's order.
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
];

/// What is wrong with the unit that this process was started by, if it was by one that can be read.
pub fn of_own_unit() -> Vec<String> {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    let Some(name) = unit_name(&groups) else {
        return Vec::new();
    };
    let mut texts = UNITS
        .iter()
        .map(|dir| std::fs::read_to_string(Path::new(dir).join(name)));
    texts
        .find_map(Result::ok)
        .map_or_else(Vec::new, |text| of_unit(name, &text))
}

/// The service that the control groups of `/proc/self/cgroup` name.
fn unit_name(groups: &str) -> Option<&str> {
    let last = |line: &'_ str| {
        line.rsplit('/')
            .next()
            .filter(|name| name.ends_with(".service"))
            .map(str::len)
    };
    groups
        .lines()
        .find_map(|line| last(line).map(|length| &line[line.len() - length..]))
}

/// What is wrong with a unit of this text.
fn of_unit(name: &str, text: &str) -> Vec<String> {
    let says = |key: &str, word: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))
            .any(|value| value.contains(word))
    };
    let mut warnings = Vec::new();
    if says("ExecStopPost", "iptables") {
        warnings.push(format!(
            "{name} sets firewall rules when the service stops (ExecStopPost=): they don't protect it while it runs, and \
             there are more of them after each stop. Take the lines out: port 4194 is not open any more, and the \
             kubelet's API asks everybody for a credential"
        ));
    }
    if says("Requires", "docker.service") || says("BindsTo", "docker.service") {
        warnings.push(format!(
            "{name} needs docker.service, which runs nothing of Kubernetes here: take Requires= and After= out, or give \
             --container-runtime-endpoint for another runtime"
        ));
    }
    warnings
}

/// What is wrong with the credential that a first certificate is requested with.
pub fn of_bootstrap(file: &Path, access: &Access) -> Option<String> {
    let token = access.token.as_ref()?.read().ok()?;
    token.trim().parse::<BootstrapToken>().is_err().then(|| {
        format!(
            "{} holds a token that never expires (one of a token file): whoever finds it can ask for a node's \
             certificate for ever. Use one of `knode token create`, which ends by itself",
            file.display()
        )
    })
}

/// What is wrong with a node's client certificate that other machines have too: it also names them as servers.
pub fn of_shared(file: &Path, certificate: &Certificate, own: &[IpAddr]) -> Option<String> {
    let foreign = |ip: &&IpAddr| !ip.is_loopback() && !own.contains(ip);
    let others: Vec<String> = certificate
        .names
        .ips
        .iter()
        .filter(foreign)
        .map(IpAddr::to_string)
        .collect();
    let serves = certificate.usages.contains(&Usage::ServerAuth);
    (serves && !others.is_empty()).then(|| {
        format!(
            "{} is a server's certificate for {} too, with one key on all machines: whoever reads it here can pretend to \
             be them. Give each node a client certificate of its own (`knode pki issue`)",
            file.display(),
            others.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use knode_pki::kubeconfig::Material;
    use knode_pki::{CertificateAuthority, Profile, Subject, SubjectAltNames};

    #[test]
    fn rules_at_the_stop_only_are_told_and_docker_too() {
        let unit = "[Unit]\nAfter=docker.service\nRequires=docker.service\n[Service]\nExecStart=/root/local/bin/kubelet \\\n  --v=2\n\
                    ExecStopPost=/sbin/iptables -A INPUT -p tcp --dport 4194 -j DROP\n";
        let told = of_unit("kubelet.service", unit);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("ExecStopPost=") && told[0].contains("4194"),
            "{}",
            told[0]
        );
        assert!(told[1].contains("docker.service"), "{}", told[1]);
        let today = "[Service]\nExecStart=/usr/bin/kubelet\nExecStopPost=/bin/true\n";
        assert!(of_unit("kubelet.service", today).is_empty());
    }

    #[test]
    fn the_own_unit_is_that_of_the_control_group() {
        assert_eq!(
            unit_name("0::/system.slice/kubelet.service\n"),
            Some("kubelet.service")
        );
        let old = "12:cpu:/user.slice\n1:name=systemd:/system.slice/kubelet.service\n";
        assert_eq!(unit_name(old), Some("kubelet.service"));
        assert_eq!(unit_name("0::/user.slice/session-1.scope\n"), None);
    }

    fn token(text: &str) -> Access {
        Access {
            token: Some(Material::Data(text.to_owned())),
            ..Access::default()
        }
    }

    #[test]
    fn tokens_without_an_end_are_told() {
        let of = |text: &str| of_bootstrap(Path::new("/etc/kubernetes/bootstrap.kubeconfig"), &token(text));
        let told = of("d3a14c5e2f7b4a8896fd1b1d2e7a0c11").unwrap();
        assert!(
            told.contains("never expires") && told.contains("knode token create"),
            "{told}"
        );
        assert_eq!(of(&BootstrapToken::generate().to_string()), None);
        assert_eq!(of_bootstrap(Path::new("/x"), &Access::default()), None);
    }

    #[test]
    fn a_key_that_all_machines_have_is_told() {
        let now = Timestamp::now();
        let ca = CertificateAuthority::create("kubernetes", now).unwrap();
        let day = std::time::Duration::from_secs(86_400);
        let of = |profile: Profile| {
            let identity = ca.issue(&profile, now).unwrap();
            let certificate = Certificate::from_pem(&identity.cert_pem).unwrap();
            of_shared(
                Path::new("/etc/kubernetes/ssl/kubernetes.pem"),
                &certificate,
                &["192.0.2.3".parse().unwrap()],
            )
        };
        let names = |ips: &[&str]| {
            SubjectAltNames::new(Vec::new(), ips.iter().map(|ip| ip.parse().unwrap()).collect())
        };
        let subject = || Subject::new("kubernetes", &["k8s"]);
        let told = of(Profile::server(
            subject(),
            names(&["127.0.0.1", "192.0.2.1", "192.0.2.3"]),
            day,
        ))
        .unwrap();
        assert!(told.contains("certificate for 192.0.2.1 too"), "{told}");
        assert_eq!(
            of(Profile::server(
                subject(),
                names(&["127.0.0.1", "192.0.2.3"]),
                day
            )),
            None
        );
        assert_eq!(of(Profile::client(subject(), day)), None);
    }
}
