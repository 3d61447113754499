//! `cargo xtask dist`: a Debian package and a tarball of a binary. The same binary and commit give the same bytes.

mod archive;
mod binary;
mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use archive::Entry;
use binary::Binary;

/// What is packed, and from where.
struct Dist<'a> {
    root: &'a Path,
    binary: Binary,
    version: &'static str,
    /// Modification time of every file, seconds since 1970.
    time: u64,
}

/// Packs; `arguments`: `--binary FILE` (default `target/release/knode`), `--out DIR` (default `target/dist`).
pub fn run(root: &Path, arguments: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut binary, mut out) = (root.join("target/release/knode"), root.join("target/dist"));
    for pair in arguments.chunks(2) {
        match pair {
            [option, value] if option == "--binary" => binary = value.into(),
            [option, value] if option == "--out" => out = value.into(),
            other => bail!("dist takes --binary FILE and --out DIR, not {other:?}"),
        }
    }
    let dist = Dist {
        root,
        binary: Binary::read(&binary)?,
        version: env!("CARGO_PKG_VERSION"),
        time: time(root)?,
    };
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let mut made = Vec::new();
    for (name, bytes) in [debian::package(&dist)?, dist.tarball()?] {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        made.push(path);
    }
    Ok(made)
}

/// The commit's time, so that nothing depends on when the packing was done; `SOURCE_DATE_EPOCH` says otherwise.
fn time(root: &Path) -> anyhow::Result<u64> {
    if let Ok(told) = std::env::var("SOURCE_DATE_EPOCH") {
        return told
            .parse()
            .context("SOURCE_DATE_EPOCH is not a number of seconds");
    }
    let asked = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root)
        .output()
        .context("ask git for the commit's time")?;
    // Without a repository, as in an unpacked source archive, any fixed time does.
    Ok(String::from_utf8_lossy(&asked.stdout).trim().parse().unwrap_or(0))
}

impl Dist<'_> {
    fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.root.join(path);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    fn text(&self, path: &str) -> anyhow::Result<String> {
        String::from_utf8(self.read(path)?).with_context(|| format!("{path} is not text"))
    }

    /// The units for a binary at this place.
    fn units(&self, directory: &str, binary: &str) -> anyhow::Result<Vec<Entry>> {
        let unit = |name: &str| {
            let text = self.text(&format!("packaging/systemd/{name}"))?;
            let filled = text
                .replace("@BINARY@", binary)
                .replace("@DATA@", "/var/lib/knode")
                .replace("@CONFIG@", "/etc/knode");
            ensure!(
                !filled.contains("@DATA@") && !filled.contains("@CONFIG@"),
                "{name} has something left to fill in"
            );
            Ok(Entry::file(
                format!("{directory}/{name}"),
                0o644,
                filled.into_bytes(),
            ))
        };
        ["knode.service", "knode-server.service"]
            .into_iter()
            .map(unit)
            .collect()
    }

    /// Environment files, with what runs unless a person says otherwise. A join token may come to stand in them.
    fn defaults(&self, directory: &str) -> anyhow::Result<Vec<Entry>> {
        let default = |(name, arguments): (&str, &str)| {
            let text = self.text(&format!("packaging/default/{name}"))?;
            let filled = text.replace("@ARGS@", arguments);
            Ok(Entry::file(
                format!("{directory}/{name}"),
                0o600,
                filled.into_bytes(),
            ))
        };
        let both = [("knode", "up"), ("knode-server", "server")];
        both.into_iter().map(default).collect()
    }

    /// Kernel settings and modules, below `directory`.
    fn kernel(&self, directory: &str) -> anyhow::Result<Vec<Entry>> {
        let file = |name: &str| {
            let bytes = self.read(&format!("packaging/{name}"))?;
            Ok(Entry::file(format!("{directory}/{name}"), 0o644, bytes))
        };
        ["modules-load.d/knode.conf", "sysctl.d/90-knode.conf"]
            .into_iter()
            .map(file)
            .collect()
    }

    /// For machines without a package manager: the binary installs itself (`knode install`); the files are there to be
    /// looked at.
    fn tarball(&self) -> anyhow::Result<(String, Vec<u8>)> {
        let top = format!("knode-{}", self.version);
        let mut entries = vec![
            Entry::file(format!("{top}/knode"), 0o755, self.binary.bytes.clone()),
            Entry::file(format!("{top}/README.md"), 0o644, self.read("README.md")?),
            Entry::file(format!("{top}/LICENSE"), 0o644, self.read("LICENSE")?),
        ];
        entries.extend(self.units(&format!("{top}/systemd"), "/usr/local/bin/knode")?);
        entries.extend(self.defaults(&format!("{top}/default"))?);
        entries.extend(self.kernel(&top)?);
        let name = format!("{top}-linux-{}.tar.gz", self.binary.machine.rust);
        Ok((name, archive::tar_gz(entries, self.time)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_twice() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let out = std::env::temp_dir().join(format!("knode-dist-{}", std::process::id()));
        let pack = |name: &str| {
            let binary = "/bin/true".to_owned();
            let out = out.join(name).display().to_string();
            let arguments = ["--binary".to_owned(), binary, "--out".to_owned(), out];
            let made = run(root, &arguments).unwrap();
            made.iter()
                .map(|path| fs::read(path).unwrap())
                .collect::<Vec<_>>()
        };
        let (first, second) = (pack("a"), pack("b"));
        assert_eq!(first.len(), 2);
        assert!(first == second, "two runs differ");
        assert!(first[0].starts_with(b"!<arch>\ndebian-binary"));
        fs::remove_dir_all(out).unwrap();
    }
}
