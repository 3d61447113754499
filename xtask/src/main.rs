//! Repository checks and generated data: `cargo xtask tidy`.

mod tidy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let findings = tidy::run(root)?;
            for f in &findings {
                println!("{f}");
            }
            println!("tidy: {} findings", findings.len());
            Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        other => {
            eprintln!("unknown task {other:?}; tasks: tidy");
            Ok(ExitCode::FAILURE)
        }
    }
}
