//! `knode mk-docker-opts`: dockerd's options from the subnet file.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use knode_overlay::{DockerOpts, DockerOptsError};

/// Writes the file.
pub fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let opts = match DockerOpts::parse(args) {
        Ok(opts) => opts,
        Err(DockerOptsError::Usage(problem)) => {
            eprint!("{problem}\n{}", DockerOpts::USAGE);
            return Ok(ExitCode::FAILURE);
        }
        Err(other) => return Err(other.into()),
    };
    let subnet = match std::fs::read_to_string(&opts.subnet_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("read {}", opts.subnet_file.display())),
    };
    let environment = std::env::vars_os();
    let readable = environment.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let text = opts.render(subnet.as_deref(), &readable.collect())?;
    std::fs::write(&opts.docker_file, text)
        .with_context(|| format!("write {}", opts.docker_file.display()))?;
    Ok(ExitCode::SUCCESS)
}
