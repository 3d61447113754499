//! Compiles the web server that the binary carries, and fixes the binary's own address.

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
    link_at_a_fixed_address();
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        leave_out_unwind_tables();
    }
    compile_web_server();
}

/// Every shim executes this binary. A position-independent one has 1.3 MB of addresses that each process fills in
/// for itself; at a fixed address they are filled in at link time, and all processes share the pages. Libraries,
/// stack and heap keep their random places, as in upstream's programs, which Go links the same way.
fn link_at_a_fixed_address() {
    println!("cargo:rustc-link-arg-bins=-no-pie");
}

/// A release ends where it panics, and nobody walks up its stack: five megabytes of tables less.
fn leave_out_unwind_tables() {
    const SCRIPT: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) } } INSERT AFTER .text;\n";
    let directory = env::var("OUT_DIR").unwrap_or_else(|error| panic!("OUT_DIR: {error}"));
    let path = PathBuf::from(directory).join("no-unwind.ld");
    std::fs::write(&path, SCRIPT).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
}

fn compile_web_server() {
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
