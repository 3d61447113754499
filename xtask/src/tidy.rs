//! Rules of the repository that no compiler checks: who may depend on whom, where `unsafe` may stand, how
//! long files and functions may grow.

mod deps;
mod sizes;
mod words;

use std::path::Path;

/// Runs every rule over the checkout at `root`; the findings, one a line, or nothing.
pub fn run(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = deps::check(root)?;
    let sources = words::sources(root)?;
    findings.extend(sizes::check(&sources));
    findings.extend(words::check(&sources));
    Ok(findings)
}
