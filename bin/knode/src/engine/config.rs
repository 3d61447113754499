//! The engine's configuration file.
//!
//! ```yaml
//! defaultRuntime: crun        # of pods without a RuntimeClass; the linked-in one where this is missing
//! runtimes:
//!   runc: {path: runc}
//!   crun: {path: /usr/bin/crun, options: [--debug]}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use knode_engine::{OciProgram, Runtimes};
use serde::Deserialize;

use crate::layout::Layout;

/// Where programs without a directory are looked for, besides PATH: services have a short one.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    default_runtime: Option<String>,
    runtimes: BTreeMap<String, Runtime>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runtime {
    path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// The OCI runtimes of the file that is named, or of the one at its usual place, which need not be there.
pub fn runtimes(named: Option<&Path>, layout: &Layout) -> anyhow::Result<Runtimes> {
    let usual = layout.engine_config();
    let path = named.unwrap_or(&usual);
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(Runtimes::default());
        }
        other => other.with_context(|| format!("read the engine's configuration {}", path.display()))?,
    };
    parse(&text).with_context(|| format!("the engine's configuration {}", path.display()))
}

fn parse(text: &str) -> anyhow::Result<Runtimes> {
    let file: Option<File> = serde_norway::from_str(text)?;
    let file = file.unwrap_or_default();
    let search = format!("{}:{USUAL}", std::env::var("PATH").unwrap_or_default());
    let program = |(name, given): (String, Runtime)| {
        let path = found(&given.path, &search);
        (
            name,
            OciProgram {
                path,
                options: given.options,
            },
        )
    };
    let programs = file.runtimes.into_iter().map(program).collect();
    Ok(Runtimes::new(programs, file.default_runtime)?)
}

/// A name without a directory is looked for as a shell does; what is not found stays as it is, to be named.
fn found(given: &Path, search: &str) -> PathBuf {
    if given.components().count() != 1 || given.is_absolute() {
        return given.to_owned();
    }
    let places = search.split(':').filter(|dir| dir.starts_with('/'));
    let mut candidates = places.map(|dir| Path::new(dir).join(given));
    candidates
        .find(|path| path.is_file())
        .unwrap_or_else(|| given.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_found_by_path_or_name() {
        parse("runtimes:\n  a: {path: /bin/sh}\n  b: {path: sh, options: [--debug]}\ndefaultRuntime: b\n")
            .unwrap();
        parse("").unwrap();
        parse("# nothing yet\n").unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let said = |text| format!("{:#}", parse(text).unwrap_err());
        assert!(said("runtimes: {a: {path: no-such-runtime}}").contains("no-such-runtime"));
        assert!(said("runtimes: {a: {path: sh, flags: []}}").contains("flags"));
        assert!(said("defaultRuntime: runc").contains("runc"));
        assert!(said("plugins: {}").contains("plugins"));
    }
}
