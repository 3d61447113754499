//! Certificate files as upstream's kubelet lays them out (`client-go/util/certificate/certificate_store.go`).

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use knode_pki::{Identity, files, split_identity_pem};

use crate::Result;

/// How many dated files are kept, the one in use included.
const KEPT: usize = 3;
const DATE: &str = "2006-01-02-15-04-05";

/// Files `<prefix>-<date>.pem` (certificate and key, 0600) and the link `<prefix>-current.pem`.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    dir: PathBuf,
    prefix: &'static str,
}

impl CertificateStore {
    /// A store in `dir` for `kubelet-client` or `kubelet-server`.
    pub fn new(dir: &Path, prefix: &'static str) -> Self {
        Self {
            dir: dir.to_owned(),
            prefix,
        }
    }

    /// The link to the certificate in use.
    pub fn current_path(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.prefix))
    }

    /// The certificate in use, if there is one.
    ///
    /// # Errors
    /// [`crate::Error::Credentials`] if the file is there and unusable.
    pub fn current(&self) -> Result<Option<Identity>> {
        let Some(text) = files::read_optional(&self.current_path())? else {
            return Ok(None);
        };
        let (cert_pem, key_pem) = split_identity_pem(&text)?;
        Ok(Some(Identity { cert_pem, key_pem }))
    }

    /// Writes a new certificate, points the link at it, and takes away all but the last few.
    ///
    /// # Errors
    /// [`crate::Error::Credentials`]; then the old one stays in use.
    pub fn update(&self, identity: &Identity, now: Timestamp) -> Result<PathBuf> {
        files::create_private_dir(&self.dir)?;
        let date = now.strftime("%Y-%m-%d-%H-%M-%S");
        let path = self.dir.join(format!("{}-{date}.pem", self.prefix));
        let text = format!("{}{}", identity.cert_pem, identity.key_pem);
        files::write_atomic(&path, text.as_bytes(), files::PRIVATE)?;
        files::symlink_atomic(&path, &self.current_path())?;
        self.prune(&path);
        Ok(path)
    }

    /// An old certificate that stays does no harm: what cannot be removed is logged only.
    fn prune(&self, current: &Path) {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(dir = %self.dir.display(), %error, "old certificates stay"),
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let current = current
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        for name in superfluous(names.collect(), self.prefix, current) {
            if let Err(error) = std::fs::remove_file(self.dir.join(&name)) {
                tracing::warn!(name, %error, "an old certificate stays");
            }
        }
    }
}

/// Dated files beyond the last [`KEPT`]; pure. The date in the name is fixed-width, so names sort by time.
fn superfluous(names: Vec<String>, prefix: &str, current: &str) -> Vec<String> {
    let dated = |name: &String| {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        let date = rest
            .and_then(|rest| rest.strip_suffix(".pem"))
            .unwrap_or_default();
        date.len() == DATE.len() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    };
    let mut names: Vec<String> = names.into_iter().filter(dated).collect();
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(KEPT));
    names.retain(|name| name != current);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_stay_and_nothing_else_is_touched() {
        let dated = |day: u32| format!("kubelet-client-2026-01-{day:02}-00-00-00.pem");
        let mut names: Vec<String> = (1..=5).map(dated).collect();
        names.extend(
            [
                "kubelet-client-current.pem",
                "kubelet-server-2026-01-01-00-00-00.pem",
                "kubelet.key",
                "kubelet-client-mine.pem",
            ]
            .map(str::to_owned),
        );
        assert_eq!(
            superfluous(names.clone(), "kubelet-client", &dated(5)),
            [dated(1), dated(2)]
        );
        let set_back = superfluous(names, "kubelet-client", &dated(1));
        assert_eq!(set_back, [dated(2)], "the one in use stays, whatever its date");
    }
}
