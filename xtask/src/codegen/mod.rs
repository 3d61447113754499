//! `cargo xtask codegen`: the schema table of `kube/api`, made from what two crates' sources say (k8s-openapi:
//! JSON names and types; k8s-pb: protobuf numbers, merge keys, order) and `go-facts.txt` (the rest).
mod emit;
mod facts;
mod join;
mod model;
mod openapi;
mod protobuf;
mod sources;

use std::fs;
use std::path::Path;

use anyhow::Context;

const OUTPUT: &str = "kube/api/src/schema/schema.txt";

/// Writes the table below `root` and returns how many types it has.
///
/// # Errors
/// Sources missing from cargo's registry, or not of the form that is expected of them.
pub fn run(root: &Path) -> anyhow::Result<usize> {
    let sources = sources::find(root)?;
    let openapi = openapi::read(&sources.openapi)?;
    let protobuf = protobuf::read(&sources.protobuf)?;
    let facts = facts::parse(include_str!("go-facts.txt"));
    let types = join::join(&openapi, &protobuf, &facts);
    let text = emit::table(&types);
    fs::write(root.join(OUTPUT), text).with_context(|| format!("write {OUTPUT}"))?;
    Ok(types.len())
}
