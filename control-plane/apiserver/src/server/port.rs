//! Who has a port.

use std::path::Path;

/// The process that listens on a TCP port, as `name (pid n)`, as far as it can be told.
pub(super) fn holder(port: u16) -> String {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    inodes
        .into_iter()
        .find_map(owner)
        .unwrap_or_else(|| "another process".to_owned())
}

/// Inodes of the sockets that listen on a port, by the text of `/proc/net/tcp` (proc(5)).
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let this = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (this == port && *state == LISTEN).then(|| inode.parse().ok())?
    });
    rows.collect()
}

/// The first process that has the socket open.
fn owner(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = std::fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files
            .any(|file| is_link_to(&file.path(), &wanted))
            .then(|| describe(pid))
    })
}

fn is_link_to(path: &Path, wanted: &str) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target.as_os_str() == wanted)
}

fn describe(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (pid {pid})", name.trim()),
        Err(_) => format!("pid {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::holder;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = format!("(pid {})", std::process::id());
        assert!(holder(port).ends_with(&wanted), "{}", holder(port));
    }
}
