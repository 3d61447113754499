//! What a binary says of itself: its machine, and the libraries that it needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// A machine in the words of others.
#[derive(Clone, Copy)]
pub struct Machine {
    elf: u16,
    pub debian: &'static str,
    pub rust: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine {
        elf: 62,
        debian: "amd64",
        rust: "x86_64",
    },
    Machine {
        elf: 183,
        debian: "arm64",
        rust: "aarch64",
    },
];

/// A program.
pub struct Binary {
    pub bytes: Vec<u8>,
    pub machine: Machine,
    /// Debian packages that it needs, with versions.
    pub needs: Vec<String>,
}

impl Binary {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("read {} (run make build)", path.display()))?;
        ensure!(
            bytes.starts_with(b"\x7fELF"),
            "{} is not a program",
            path.display()
        );
        let elf = u16::from_le_bytes([bytes[18], bytes[19]]);
        let machine = MACHINES.into_iter().find(|machine| machine.elf == elf);
        Ok(Self {
            machine: machine.with_context(|| format!("packages for ELF machine {elf} are not supported"))?,
            needs: needs(path)?,
            bytes,
        })
    }
}

fn readelf(option: &str, path: &Path) -> anyhow::Result<String> {
    let out = Command::new("readelf")
        .args(["--wide", option])
        .arg(path)
        .output()
        .context("run readelf")?;
    ensure!(
        out.status.success(),
        "readelf: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn needs(path: &Path) -> anyhow::Result<Vec<String>> {
    let dynamic = readelf("--dynamic", path)?;
    let libraries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let names = libraries.filter_map(|line| line.split(['[', ']']).nth(1));
    let mut packages = Vec::new();
    for name in names {
        let package = match name {
            "libc.so.6" | "libm.so.6" | "libdl.so.2" | "libpthread.so.0" => libc(path)?,
            _ if name.starts_with("ld-linux") => continue,
            "libgcc_s.so.1" => "libgcc-s1".to_owned(),
            "libseccomp.so.2" => "libseccomp2".to_owned(),
            other => bail!("no Debian package is known for {other}"),
        };
        packages.push(package);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

/// The oldest C library that has every function which is used.
fn libc(path: &Path) -> anyhow::Result<String> {
    let versions = readelf("--version-info", path)?;
    let numbers = |text: &str| -> Option<Vec<u32>> { text.split('.').map(|n| n.parse().ok()).collect() };
    let newest = versions
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            numbers(&rest[..end])
        })
        .max()
        .context("no version of the C library is named")?;
    let newest: Vec<String> = newest.iter().map(u32::to_string).collect();
    Ok(format!("libc6 (>= {})", newest.join(".")))
}
