//! Where the flags want things.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use knode_kubelet_config::{CommandLine, Own};

use crate::cli::CniOptions;
use crate::dual::{Dual, Family};
use crate::layout::{KubeletPlaces, Layout};
use crate::node::CniDirs;
use crate::preflight;

/// Where plugins of networks are, unless told otherwise.
const CNI_BIN: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// The kubelet's files.
///
/// # Errors
/// Without `--kubeconfig`: upstream's kubelet would run alone then.
pub fn files(line: &CommandLine) -> anyhow::Result<KubeletPlaces> {
    let named = |flag| line.own(flag).map(|path| absolute(Path::new(path)));
    let kubeconfig = named(Own::Kubeconfig);
    kubeconfig.as_ref().context(
        "--kubeconfig is missing: a kubelet without an API server is not supported (static pods run beside one)",
    )?;
    Ok(KubeletPlaces {
        root: named(Own::RootDir),
        certificates: named(Own::CertDir),
        kubeconfig,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The node's addresses: those that are named, or its name if that is one, or the default route's.
pub fn addresses(named: Option<&str>, name: &str) -> anyhow::Result<Dual<IpAddr>> {
    let asked = match (named, name.parse::<IpAddr>()) {
        (Some(text), _) => {
            let parsed = text.parse::<Dual<IpAddr>>();
            Some(parsed.map_err(|error| anyhow::anyhow!("--node-ip {text:?}: {error}"))?)
        }
        (None, Ok(address)) => Some(Dual::single(address)),
        (None, Err(_)) => None,
    };
    let family = asked.map_or(Family::V4, |ips| Family::of(&ips.primary()));
    Ok(preflight::node_ips(asked, &[family])?)
}

/// Where networks are configured.
pub fn cni(line: &CommandLine, layout: &Layout) -> CniDirs {
    let bin = line.own(Own::CniBinDir);
    let bin = match bin {
        Some(dirs) => dirs.split([':', ',']).map(PathBuf::from).collect(),
        None => CNI_BIN.iter().map(PathBuf::from).collect(),
    };
    let options = CniOptions {
        cni_conf_dir: line.own(Own::CniConfDir).map(PathBuf::from),
        cni_bin_dir: bin,
    };
    options.dirs(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::DEFAULT_DATA_DIR;

    fn line(words: &[&str]) -> CommandLine {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        knode_kubelet_config::parse_flags(&words).unwrap()
    }

    #[test]
    fn files_lie_where_the_flags_say() {
        let flags = [
            "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
            "--cert-dir=/etc/kubernetes/ssl",
        ];
        let layout = Layout::new(Path::new(DEFAULT_DATA_DIR)).with_kubelet(files(&line(&flags)).unwrap());
        assert_eq!(layout.cert_dir(), Path::new("/etc/kubernetes/ssl"));
        assert_eq!(
            layout.kubelet_kubeconfig(),
            Path::new("/etc/kubernetes/kubelet.kubeconfig")
        );
        assert_eq!(layout.kubelet_dir(), Path::new("/var/lib/kubelet"));
        let alone = files(&line(&["--cert-dir=/x"])).unwrap_err().to_string();
        assert!(alone.contains("--kubeconfig"), "{alone}");
    }

    #[test]
    fn networks_are_where_old_flags_say() {
        let layout = Layout::new(Path::new(DEFAULT_DATA_DIR));
        let usual = cni(&line(&[]), &layout);
        assert_eq!(usual.conf, Some("/etc/cni/net.d".into()));
        let named = cni(&line(&["--cni-conf-dir=/c", "--network-plugin-dir=/b"]), &layout);
        assert_eq!(
            (named.conf, named.bin),
            (Some("/c".into()), vec![PathBuf::from("/b")])
        );
    }
}
