//! NFS, by the host's mount helper.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// What an NFS server exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The server's name or address.
    pub server: String,
    /// The path there.
    pub path: String,
    /// For reading alone.
    pub read_only: bool,
}

/// Where helpers lie.
const HELPERS: [&str; 2] = ["/sbin/mount.nfs", "/usr/sbin/mount.nfs"];

/// The helper's words: what, where, how. An address of IPv6 is put into brackets.
fn arguments(export: &Export, options: &[String], target: &Path) -> Vec<String> {
    let server = match export.server.contains(':') && !export.server.starts_with('[') {
        true => format!("[{}]", export.server),
        false => export.server.clone(),
    };
    let mut options = options.to_vec();
    if export.read_only {
        options.push("ro".to_owned());
    }
    let mut words = vec![format!("{server}:{}", export.path), target.display().to_string()];
    if !options.is_empty() {
        words.extend(["-o".to_owned(), options.join(",")]);
    }
    words
}

/// Mounts the export.
///
/// # Errors
/// That there is no helper, or what it said.
pub(crate) async fn mount(export: &Export, options: &[String], target: &Path) -> Result<(), String> {
    let helper = HELPERS.into_iter().find(|path| Path::new(path).is_file());
    let Some(helper) = helper else {
        return Err(format!(
            "mount failed: fs type nfs needs the host's helper {}, which is not there (Debian: package nfs-common)",
            HELPERS[0]
        ));
    };
    let words = arguments(export, options, target);
    let ran = Command::new(helper)
        .args(&words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("mount failed: {helper}: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!(
            "mount failed: {}\nMounting command: {helper}\nMounting arguments: {}\nOutput: {}{}",
            ran.status,
            words.join(" "),
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_is_told_what_where_and_how() {
        let mut export = Export {
            server: "fd00::1".into(),
            path: "/a".into(),
            read_only: true,
        };
        let words = arguments(&export, &["vers=4".into()], Path::new("/t"));
        assert_eq!(words, ["[fd00::1]:/a", "/t", "-o", "vers=4,ro"]);
        (export.server, export.read_only) = ("s".into(), false);
        assert_eq!(arguments(&export, &[], Path::new("/t")), ["s:/a", "/t"]);
    }
}
