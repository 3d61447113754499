use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use knode_netlink::generic::wireguard::Key;

use crate::error::{Error, Result};
use crate::lease::{key, key_text};

/// Upstream's variable with the file's path.
const VARIABLE: &str = "WIREGUARD_KEY_FILE";

/// Where the private key lies: where the environment says, else beside the subnet file, as upstream.
pub(crate) fn key_file(env: impl Fn(&str) -> Option<String>, subnet_file: &Path) -> PathBuf {
    let asked = env(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    asked.unwrap_or_else(|| subnet_file.with_file_name("wgkey"))
}

/// Reads the private key; makes one where there is none.
pub(super) fn load(path: &Path) -> Result<Key> {
    match fs::read_to_string(path) {
        Ok(text) => key(&text).ok_or_else(|| Error::KeyFile(path.to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => make(path),
        Err(e) => Err(Error::file("read", path)(e)),
    }
}

fn make(path: &Path) -> Result<Key> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 32];
    let read = fs::File::open(source).and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(Error::file("read", source))?;
    let key = clamped(bytes);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o400).open(path);
    let written = file.and_then(|mut f| {
        f.write_all(key_text(&key).as_bytes())?;
        f.sync_all()
    });
    written.map_err(Error::file("write", path))?;
    Ok(key)
}

/// Random bytes as a private key of Curve25519 (RFC 7748, section 5).
fn clamped(mut bytes: [u8; 32]) -> Key {
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    Key(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let directory = std::env::temp_dir().join(format!("knode-wgkey-{}", std::process::id()));
        let path = directory.join("flannel/wgkey");
        let first = load(&path).unwrap();
        assert_eq!(load(&path).unwrap(), first);
        assert_eq!((first.0[0] & 7, first.0[31] & 192), (0, 64));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_eq!(
            fs::read_to_string(&path).unwrap().len(),
            44,
            "as upstream writes it"
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load(&path), Err(Error::KeyFile(_))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_environment_says_where() {
        let of = |set: Option<&str>| {
            let set = set.map(str::to_owned);
            key_file(move |_| set.clone(), Path::new("/run/flannel/subnet.env"))
        };
        assert_eq!(of(None), Path::new("/run/flannel/wgkey"));
        assert_eq!(of(Some("/etc/key")), Path::new("/etc/key"));
    }
}
