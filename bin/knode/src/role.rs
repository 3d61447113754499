//! Called by another program's name, the binary takes that program's part.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The command line with the part that the program's name asks for put in as the subcommand. `cni`: the environment
/// is that of a CNI plugin, which has no arguments.
pub fn arguments(args: impl Iterator<Item = OsString>, cni: bool) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    let name = args
        .first()
        .and_then(|a| Path::new(a).file_name())
        .and_then(OsStr::to_str);
    if let Some(role) = name.and_then(role) {
        args.insert(1, role.into());
    } else if cni && args.len() == 1 {
        args.push("cni".into());
    }
    args
}

fn role(name: &str) -> Option<&'static str> {
    match name {
        "flanneld" => Some("flanneld"),
        "kube-proxy" => Some("kube-proxy"),
        "kubelet" => Some("kubelet"),
        "mk-docker-opts" | "mk-docker-opts.sh" => Some("mk-docker-opts"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(line: &[&str]) -> Command {
        Cli::try_parse_from(arguments(line.iter().map(OsString::from), false))
            .unwrap()
            .command
    }

    #[test]
    fn a_name_is_a_part() {
        let Command::Flanneld(role) =
            command(&["/usr/bin/flanneld", "-etcd-prefix=/n", "--ip-masq", "-v", "2"])
        else {
            panic!("flanneld is meant");
        };
        assert_eq!(role.args, ["-etcd-prefix=/n", "--ip-masq", "-v", "2"]);
        let Command::KubeProxy(role) = command(&["kube-proxy", "--logtostderr=true", "--v=2"]) else {
            panic!("kube-proxy is meant");
        };
        assert_eq!(role.args, ["--logtostderr=true", "--v=2"]);
        let Command::Kubelet(role) =
            command(&["kubelet", "--cluster_dns=10.254.0.2", "--hairpin-mode", "none"])
        else {
            panic!("kubelet is meant");
        };
        assert_eq!(role.args, ["--cluster_dns=10.254.0.2", "--hairpin-mode", "none"]);
        let Command::MkDockerOpts(role) = command(&["mk-docker-opts.sh", "-k", "X", "-d", "/f"]) else {
            panic!("mk-docker-opts is meant");
        };
        assert_eq!(role.args, ["-k", "X", "-d", "/f"]);
        let Command::Flanneld(role) = command(&["knode", "flanneld", "config", "get", "-etcd-prefix", "/n"])
        else {
            panic!("flanneld is meant");
        };
        assert_eq!(role.args, ["config", "get", "-etcd-prefix", "/n"]);
    }

    #[test]
    fn an_engines_call_without_arguments_is_for_the_plugin() {
        let line = |words: &[&str]| arguments(words.iter().map(OsString::from), true);
        assert_eq!(line(&["/opt/cni/bin/knode"]), ["/opt/cni/bin/knode", "cni"]);
        assert_eq!(line(&["knode", "verify"]), ["knode", "verify"]);
    }
}
