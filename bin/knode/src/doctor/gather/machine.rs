//! Names, disks, swap, certificates.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_netlink::Handle;
use nix::sys::statvfs::statvfs;

use crate::doctor::facts::{CertificateFile, Disk, Host, Share, Validity};
use crate::layout::Layout;

/// A name server that is silent for so long does not help.
const PATIENCE: Duration = Duration::from_secs(3);

pub async fn host() -> Host {
    let name = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let asked = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.clone(), 0))).await;
    let resolved = match asked {
        Ok(Ok(found)) => {
            let mut all: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            all.dedup();
            Ok(all)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {PATIENCE:?}")),
    };
    let addresses = Handle::open()
        .and_then(|handle| handle.addresses(None))
        .unwrap_or_default();
    Host {
        kept: fs::read_to_string("/etc/hostname")
            .ok()
            .map(|text| text.trim().to_owned()),
        resolved,
        addresses: addresses.into_iter().map(|address| address.net.addr()).collect(),
        name,
    }
}

pub fn swaps() -> Vec<String> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let areas = text.lines().skip(1);
    areas
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

pub fn disks(layout: &Layout) -> Vec<Disk> {
    let places = [
        ("images and containers", layout.engine_dir()),
        ("volumes", layout.kubelet_dir()),
        ("logs", layout.pod_logs_dir()),
    ];
    places
        .into_iter()
        .filter_map(|(what, path)| disk(what, &path))
        .collect()
}

/// The file system where a directory lies, or will lie.
fn disk(what: &'static str, path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|path| path.exists())?;
    let stat = statvfs(there).ok()?;
    let fragment = stat.fragment_size();
    Some(Disk {
        what,
        path: path.to_owned(),
        bytes: Share {
            free: stat.blocks_available() * fragment,
            all: stat.blocks() * fragment,
        },
        inodes: Share {
            free: stat.files_available(),
            all: stat.files(),
        },
    })
}

/// Every certificate among these files and in these directories, kubeconfigs included. What is not there is not missed.
pub fn certificates(places: &[PathBuf]) -> Vec<CertificateFile> {
    let there: Vec<PathBuf> = places.iter().filter(|place| place.exists()).cloned().collect();
    let inventory = match knode_pki::inventory::scan(&there) {
        Ok(inventory) => inventory,
        Err(error) => {
            let path = there.first().cloned().unwrap_or_default();
            let content = Err(knode_client::brief(&error));
            return vec![CertificateFile { path, content }];
        }
    };
    let found = inventory.found.into_iter().map(|found| CertificateFile {
        path: found.file,
        content: match found.fault {
            Some(fault) => Err(fault),
            None => Ok(Validity {
                subject: found.certificate.subject.common_name,
                not_before: found.certificate.not_before,
                not_after: found.certificate.not_after,
            }),
        },
    });
    let broken = inventory.broken.into_iter().map(|(path, why)| CertificateFile {
        path,
        content: Err(why),
    });
    found.chain(broken).collect()
}
