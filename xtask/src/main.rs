//! Repository checks, generated data, packages: `cargo xtask tidy`, `cargo xtask codegen`, `cargo xtask dist`.

mod codegen;
mod dist;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let findings = tidy::run(root)?;
            for f in &findings {
                println!("{f}");
            }
            println!("tidy: {} findings", findings.len());
            Ok(if findings.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Some("codegen") => {
            println!("codegen: {} types", codegen::run(root)?);
            Ok(ExitCode::SUCCESS)
        }
        Some("dist") => {
            let arguments: Vec<String> = std::env::args().skip(2).collect();
            for made in dist::run(root, &arguments)? {
                println!("{}", made.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprintln!("unknown task {other:?}; tasks: tidy, codegen, dist");
            Ok(ExitCode::FAILURE)
        }
    }
}
