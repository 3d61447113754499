//! Compiles the web server that the binary carries.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "web/web.rs";
/// A few hundred kilobytes are expected; far more means that stripping failed.
const SIZE_LIMIT: usize = 4 << 20;

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("web");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-name", "web", "--crate-type", "bin"])
        .args(["--target", &variable("TARGET")])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
        ])
        .args(["-C", "strip=symbols", "-C", "lto=fat", "-C", "codegen-units=1"])
        .arg("-o")
        .arg(&output)
        .arg(SOURCE)
        .status()
        .unwrap_or_else(|error| panic!("cannot run rustc: {error}"));
    assert!(status.success(), "compiling {SOURCE}: {status}");
    let program = std::fs::read(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    assert!(
        program.len() < SIZE_LIMIT,
        "{} has {} bytes",
        output.display(),
        program.len()
    );
    let mut fingerprint = DefaultHasher::new();
    program.hash(&mut fingerprint);
    println!(
        "cargo:rustc-env=KNODE_WEB_FINGERPRINT={:016x}",
        fingerprint.finish()
    );
    println!("cargo:rustc-env=KNODE_WEB={}", output.display());
}
