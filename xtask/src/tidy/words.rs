//! Words that may stand only in certain places.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A source file of ours.
pub struct Source {
    /// Relative to the root.
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    /// Whether the file holds tests, benches or generated data alone.
    pub fn is_test(&self) -> bool {
        let p = self.path.to_string_lossy();
        ["tests/", "benches/", "testkit/"].iter().any(|d| p.contains(d))
            || p.ends_with("tests.rs")
            || p.ends_with("_test.rs")
    }

    /// The part of the file before its unit tests.
    pub fn production(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        &self.text[..end]
    }
}

/// Every Rust file of ours.
pub fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut all = Vec::new();
    for top in [
        "bin",
        "benches",
        "control-plane",
        "fuzz",
        "kube",
        "node",
        "sys",
        "testkit",
        "tests",
        "xtask",
    ] {
        if root.join(top).is_dir() {
            walk(root, &root.join(top), &mut all)?;
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn walk(root: &Path, dir: &Path, all: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            walk(root, &path, all)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            all.push(Source {
                path: path.strip_prefix(root).unwrap_or(&path).to_owned(),
                text,
            });
        }
    }
    Ok(())
}

/// `unsafe` outside `sys/`, and commands that the product must not start.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for s in sources.iter().filter(|s| !s.is_test()) {
        let at = |n: usize, what: &str| format!("{}:{}: {what}", s.path.display(), n + 1);
        for (n, line) in s.production().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let starts = |w: &str| code.trim_start().starts_with(w);
            if !s.path.starts_with("sys")
                && !s.path.starts_with("xtask")
                && (code.contains("unsafe {") || starts("unsafe "))
            {
                findings.push(at(n, "unsafe outside sys/"));
            }
            for tool in [
                "ip",
                "nft",
                "iptables",
                "mount",
                "umount",
                "systemctl",
                "modprobe",
            ] {
                if code.contains(&format!("Command::new(\"{tool}\")")) {
                    findings.push(at(n, &format!("starts {tool:?}; use sys/")));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn finds_unsafe_and_shelling_out() {
        let bad = source(
            "node/a/src/lib.rs",
            "fn f() { unsafe { g() } }\nCommand::new(\"ip\");\n",
        );
        assert_eq!(check(&[bad]).len(), 2);
        let good = source("sys/a/src/lib.rs", "fn f() { unsafe { g() } }\n");
        assert!(check(&[good]).is_empty());
    }
}
