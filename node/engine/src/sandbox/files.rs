//! `resolv.conf`, `hosts` and `hostname` of a sandbox, and its shared memory.

use std::fs;
use std::path::Path;

use knode_cri::DnsConfig;
use nix::mount::{MntFlags, MsFlags};

use crate::error::{FileContext, Result};
use crate::state::{Layout, SandboxRecord, remove_dir};

/// Size of a sandbox's shared memory.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// The machine's host name.
pub(crate) fn own_hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Text of `resolv.conf`; `None` when the host's own is to be used.
pub(super) fn resolv_conf(dns: Option<&DnsConfig>) -> Option<String> {
    let dns = dns?;
    if dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Some(text)
}

/// Makes the sandbox's directory with its files and mounts its shared memory.
pub(super) fn make(layout: &Layout, record: &SandboxRecord) -> Result<()> {
    let directory = layout.sandbox(&record.id);
    fs::create_dir_all(&directory).file("making", &directory)?;
    let write = |name: &str, text: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, text).file("writing", path)
    };
    let from_host = |path: &str| fs::read(path).unwrap_or_default();
    write("hostname", format!("{}\n", record.hostname).as_bytes())?;
    write("hosts", &from_host("/etc/hosts"))?;
    match resolv_conf(record.config.dns_config.as_ref()) {
        Some(text) => write("resolv.conf", text.as_bytes())?,
        None => write("resolv.conf", &from_host("/etc/resolv.conf"))?,
    }
    if !record.host_ipc() {
        mount_shm(&layout.shm(&record.id))?;
    }
    Ok(())
}

fn mount_shm(target: &Path) -> Result<()> {
    fs::create_dir_all(target).file("making", target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("shm"), target, Some("tmpfs"), flags, Some(SHM_OPTIONS))
        .map_err(std::io::Error::from)
        .file("mounting", target)
}

/// Unmounts the shared memory and takes its directory away.
pub(super) fn release_shm(target: &Path) -> Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(std::io::Error::from(error)).file("unmounting", target),
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).file("removing", target),
        _ => Ok(()),
    }
}

/// Removes the sandbox's directory.
pub(super) fn remove_files(layout: &Layout, id: &str) -> Result<()> {
    remove_dir(&layout.sandbox(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_says_what_the_configuration_says() {
        let dns = DnsConfig {
            servers: vec!["10.254.0.10".into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(Some(&dns)).unwrap(),
            "search a.svc svc\nnameserver 10.254.0.10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(Some(&DnsConfig::default())), None);
        assert_eq!(resolv_conf(None), None);
    }
}
