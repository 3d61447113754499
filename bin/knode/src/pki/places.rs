//! What a cluster's certificates are and where they lie, by the seed's names or by kubeadm's; pure.

use std::path::{Path, PathBuf};

use knode_pki::{AuthorityFiles, Subject, SubjectAltNames, Usage};

use super::cli::LayoutName;

/// An authority of the layout.
#[derive(Clone, Debug)]
pub struct Authority {
    /// What it is called on the command line.
    pub name: &'static str,
    /// CN of its certificate.
    pub common_name: &'static str,
    pub files: AuthorityFiles,
}

/// A certificate of the layout.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Which of the authorities signs it.
    pub authority: &'static str,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub subject: Subject,
    pub names: SubjectAltNames,
    pub usages: Vec<Usage>,
}

/// Who a kubeconfig stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client certificate of the first authority.
    Certificate(Subject),
    /// The bootstrap user of the token file.
    Token,
}

/// A kubeconfig of the layout.
#[derive(Clone, Debug)]
pub struct Entry {
    pub file: PathBuf,
    pub who: Who,
}

/// Everything of a layout.
#[derive(Clone, Debug)]
pub struct Places {
    pub authorities: Vec<Authority>,
    pub pairs: Vec<Pair>,
    pub kubeconfigs: Vec<Entry>,
    pub token_csv: PathBuf,
    /// The keys of service-account tokens, private and public.
    pub service_account: Option<(PathBuf, PathBuf)>,
}

/// Under which names servers are reached.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The API server's, with those that every API server has.
    pub api: SubjectAltNames,
    /// The machine's own, for etcd.
    pub machine: SubjectAltNames,
    /// The machine's name.
    pub host: String,
}

const CLIENT: [Usage; 3] = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ClientAuth];
const SERVER: [Usage; 3] = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth];
const BOTH: [Usage; 4] = [
    Usage::DigitalSignature,
    Usage::KeyEncipherment,
    Usage::ServerAuth,
    Usage::ClientAuth,
];

/// The group that may do everything.
const MASTERS: &[&str] = &["system:masters"];

/// The layout that is in a directory: kubeadm's if its authority is there.
pub fn detect(dir: &Path) -> LayoutName {
    if dir.join("pki/ca.crt").exists() {
        LayoutName::Kubeadm
    } else {
        LayoutName::Seed
    }
}

/// The files of a layout.
pub fn places(layout: LayoutName, dir: &Path, names: &Names) -> Places {
    match layout {
        LayoutName::Seed => seed(dir, names),
        LayoutName::Kubeadm => kubeadm(dir, names),
    }
}

/// Where the cluster's authority is. A directory that holds it itself (a knode's own, or one that was named) comes
/// before the layouts' subdirectories.
pub fn authority_files(layout: Option<LayoutName>, dir: &Path) -> AuthorityFiles {
    let (pem, crt) = (AuthorityFiles::in_dir(dir), AuthorityFiles::crt(dir, "ca"));
    match layout {
        None if pem.cert.exists() => pem,
        None if crt.cert.exists() => crt,
        layout => {
            let places = places(layout.unwrap_or_else(|| detect(dir)), dir, &Names::default());
            places.authorities[0].files.clone()
        }
    }
}

fn seed(dir: &Path, names: &Names) -> Places {
    let ssl = dir.join("ssl");
    let user = |name: &str, groups: &[&str]| Who::Certificate(Subject::new(name, groups));
    let entry = |file: &str, who| Entry {
        file: dir.join(file),
        who,
    };
    Places {
        authorities: vec![Authority {
            name: "ca",
            common_name: "kubernetes",
            files: AuthorityFiles::in_dir(&ssl),
        }],
        pairs: vec![Pair {
            authority: "ca",
            cert: ssl.join("kubernetes.pem"),
            key: ssl.join("kubernetes-key.pem"),
            subject: Subject::new("kubernetes", &["k8s"]),
            names: names.api.clone(),
            usages: BOTH.to_vec(),
        }],
        kubeconfigs: vec![
            entry("admin.kubeconfig", user("admin", MASTERS)),
            entry("kube-proxy.kubeconfig", user("system:kube-proxy", &[])),
            entry("bootstrap.kubeconfig", Who::Token),
        ],
        token_csv: dir.join("token.csv"),
        service_account: None,
    }
}

/// kubeadm's names (kubernetes.io/docs/setup/best-practices/certificates).
fn kubeadm(dir: &Path, names: &Names) -> Places {
    let pki = dir.join("pki");
    let etcd = pki.join("etcd");
    let authority = |name, common_name, dir: &Path, stem: &str| Authority {
        name,
        common_name,
        files: AuthorityFiles::crt(dir, stem),
    };
    Places {
        authorities: vec![
            authority("ca", "kubernetes", &pki, "ca"),
            authority("etcd/ca", "etcd-ca", &etcd, "ca"),
            authority("front-proxy-ca", "front-proxy-ca", &pki, "front-proxy-ca"),
        ],
        pairs: kubeadm_pairs(&pki, &etcd, names),
        kubeconfigs: kubeadm_kubeconfigs(dir),
        token_csv: dir.join("token.csv"),
        service_account: Some((pki.join("sa.key"), pki.join("sa.pub"))),
    }
}

fn kubeadm_pairs(pki: &Path, etcd: &Path, names: &Names) -> Vec<Pair> {
    let pair = |authority, dir: &Path, stem: &str, subject, names: &SubjectAltNames, usages: &[Usage]| Pair {
        authority,
        cert: dir.join(format!("{stem}.crt")),
        key: dir.join(format!("{stem}.key")),
        subject,
        names: names.clone(),
        usages: usages.to_vec(),
    };
    let client = |authority, dir: &Path, stem: &str, name: &str, groups: &[&str]| {
        let none = SubjectAltNames::default();
        pair(authority, dir, stem, Subject::new(name, groups), &none, &CLIENT)
    };
    let host = || Subject::new(names.host.clone(), &[]);
    let api = Subject::new("kube-apiserver", &[]);
    let (kubelet_client, front_proxy) = ("apiserver-kubelet-client", "front-proxy-client");
    let (etcd_client, healthcheck) = ("apiserver-etcd-client", "healthcheck-client");
    vec![
        pair("ca", pki, "apiserver", api, &names.api, &SERVER),
        client(
            "ca",
            pki,
            kubelet_client,
            "kube-apiserver-kubelet-client",
            MASTERS,
        ),
        client("front-proxy-ca", pki, front_proxy, "front-proxy-client", &[]),
        client("etcd/ca", pki, etcd_client, "kube-apiserver-etcd-client", &[]),
        pair("etcd/ca", etcd, "server", host(), &names.machine, &BOTH),
        pair("etcd/ca", etcd, "peer", host(), &names.machine, &BOTH),
        client("etcd/ca", etcd, healthcheck, "kube-etcd-healthcheck-client", &[]),
    ]
}

fn kubeadm_kubeconfigs(dir: &Path) -> Vec<Entry> {
    let entry = |file: &str, who| Entry {
        file: dir.join(file),
        who,
    };
    let user =
        |file: &str, name: &str, groups: &[&str]| entry(file, Who::Certificate(Subject::new(name, groups)));
    vec![
        user("admin.conf", "kubernetes-admin", MASTERS),
        user("controller-manager.conf", "system:kube-controller-manager", &[]),
        user("scheduler.conf", "system:kube-scheduler", &[]),
        user("kube-proxy.conf", "system:kube-proxy", &[]),
        entry("bootstrap-kubelet.conf", Who::Token),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_names_are_the_seeds() {
        let places = places(LayoutName::Seed, Path::new("/etc/kubernetes"), &Names::default());
        let authority = &places.authorities[0].files;
        let mut files: Vec<_> = [
            &authority.cert,
            &authority.key,
            &places.pairs[0].cert,
            &places.pairs[0].key,
        ]
        .map(|f| f.to_str().unwrap())
        .to_vec();
        files.extend(places.kubeconfigs.iter().map(|k| k.file.to_str().unwrap()));
        files.push(places.token_csv.to_str().unwrap());
        assert_eq!(
            files,
            [
                "/etc/kubernetes/ssl/ca.pem",
                "/etc/kubernetes/ssl/ca-key.pem",
                "/etc/kubernetes/ssl/kubernetes.pem",
                "/etc/kubernetes/ssl/kubernetes-key.pem",
                "/etc/kubernetes/admin.kubeconfig",
                "/etc/kubernetes/kube-proxy.kubeconfig",
                "/etc/kubernetes/bootstrap.kubeconfig",
                "/etc/kubernetes/token.csv",
            ]
        );
    }

    #[test]
    fn every_pair_of_kubeadms_has_an_authority_of_its_own_layout() {
        let places = places(LayoutName::Kubeadm, Path::new("/k"), &Names::default());
        for pair in &places.pairs {
            assert!(
                places.authorities.iter().any(|a| a.name == pair.authority),
                "{pair:?}"
            );
        }
        assert!(
            places
                .pairs
                .iter()
                .any(|p| p.cert == Path::new("/k/pki/etcd/server.crt"))
        );
    }
}
