//! The kubelet's configuration file and its drop-ins.

use std::io;
use std::path::{Path, PathBuf};

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read the kubelet's configuration {}", path.display())]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// Name and text of the file, then of the drop-ins `*.conf` in and below the directory, in the order of their names
/// (upstream: `mergeKubeletConfigurations`).
///
/// # Errors
/// [`ReadError`]; what is named must be there.
pub fn read(file: Option<&Path>, dir: Option<&Path>) -> Result<Vec<(String, String)>, ReadError> {
    let mut paths: Vec<PathBuf> = file.map(Path::to_owned).into_iter().collect();
    if let Some(dir) = dir {
        drop_ins(dir, &mut paths).map_err(|source| ReadError {
            path: dir.to_owned(),
            source,
        })?;
    }
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path.display().to_string(), text)),
        Err(source) => Err(ReadError { path, source }),
    };
    paths.into_iter().map(read).collect()
}

fn drop_ins(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries: io::Result<Vec<_>> = std::fs::read_dir(dir)?.collect();
    let mut entries = entries?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            drop_ins(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_come_in_the_order_of_their_names() {
        let root = std::env::temp_dir().join(format!("knode-config-files-{}", std::process::id()));
        std::fs::create_dir_all(root.join("d/20")).unwrap();
        for (name, text) in [
            ("base", "0"),
            ("d/30.conf", "3"),
            ("d/10.conf", "1"),
            ("d/20/a.conf", "2"),
            ("d/40.yaml", "x"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let texts: Vec<String> = read(Some(&root.join("base")), Some(&root.join("d")))
            .unwrap()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["0", "1", "2", "3"]);
        let missing = read(None, Some(&root.join("none"))).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
