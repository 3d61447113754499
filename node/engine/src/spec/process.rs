//! What runs in the container: words, environment, directory, user.

use knode_cri::{ContainerConfig, LinuxContainerSecurityContext};
use knode_images::ImageConfig;
use oci_spec::runtime::{LinuxCapabilities, Process, ProcessBuilder, User, UserBuilder};

use super::user::ResolvedUser;
use super::{Input, SpecError};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The words to execute. A command in the configuration replaces the image's entry point and its arguments;
/// arguments in the configuration replace the image's.
///
/// # Errors
/// [`SpecError::NoCommand`] when nothing is left.
pub fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let mut words = if config.command.is_empty() {
        image.entrypoint.clone()
    } else {
        config.command.clone()
    };
    if !config.args.is_empty() {
        words.extend(config.args.iter().cloned());
    } else if config.command.is_empty() {
        words.extend(image.cmd.iter().cloned());
    }
    if words.is_empty() {
        Err(SpecError::NoCommand)
    } else {
        Ok(words)
    }
}

/// `NAME=value` pairs: defaults, then the image's, then the configuration's, the last of a name winning.
pub fn environment(config: &ContainerConfig, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut list = vec![DEFAULT_PATH.to_string(), format!("HOSTNAME={hostname}")];
    if config.tty {
        list.push("TERM=xterm".into());
    }
    let configured = config
        .envs
        .iter()
        .map(|pair| format!("{}={}", pair.key, pair.value));
    for pair in image.env.iter().cloned().chain(configured) {
        set(&mut list, pair);
    }
    list
}

fn set(list: &mut Vec<String>, pair: String) {
    let name = |pair: &str| pair.split_once('=').map_or(pair.len(), |(name, _)| name.len());
    let length = name(&pair);
    if length == 0 || length == pair.len() {
        // Without a name or a value the system's own functions refuse it.
        return;
    }
    match list
        .iter_mut()
        .find(|other| name(other) == length && other[..length] == pair[..length])
    {
        Some(other) => *other = pair,
        None => list.push(pair),
    }
}

/// The working directory.
pub fn working_directory(config: &ContainerConfig, image: &ImageConfig) -> String {
    let given = [&config.working_dir, &image.working_dir]
        .into_iter()
        .find(|directory| !directory.is_empty());
    match given {
        Some(directory) if directory.starts_with('/') => directory.clone(),
        Some(directory) => format!("/{directory}"),
        None => "/".into(),
    }
}

pub(super) fn process(
    input: &Input<'_>,
    context: &LinuxContainerSecurityContext,
    capabilities: LinuxCapabilities,
) -> Result<Process, SpecError> {
    let mut env = environment(input.config, input.image, input.hostname);
    for pair in input.cdi.iter().flat_map(|edits| &edits.env) {
        set(&mut env, pair.clone());
    }
    let mut groups = input.user.groups.clone();
    groups.extend(input.cdi.iter().flat_map(|edits| &edits.additional_gids));
    let mut process = ProcessBuilder::default()
        .terminal(input.config.tty)
        .user(user(input.user, groups)?)
        .args(arguments(input.config, input.image)?)
        .env(env)
        .cwd(working_directory(input.config, input.image))
        .capabilities(capabilities)
        .build()?;
    process.set_rlimits(None);
    // "false" and "not said" differ to the runtime in when it loads the seccomp filter.
    process.set_no_new_privileges(context.no_new_privs.then_some(true));
    process.set_apparmor_profile(None);
    process.set_oom_score_adj(None);
    Ok(process)
}

fn user(user: &ResolvedUser, groups: Vec<u32>) -> Result<User, SpecError> {
    Ok(UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(groups)
        .build()?)
}

/// The process of a command in a running container: as the container's own, but for words and terminal.
/// A seccomp filter can be loaded there only with `no_new_privileges` once capabilities are gone, so a
/// filtered container's commands get that too.
pub fn exec_process(container: &Process, command: &[String], tty: bool, filtered: bool) -> Process {
    let mut process = container.clone();
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(tty));
    if filtered {
        process.set_no_new_privileges(Some(true));
    }
    if tty
        && let Some(environment) = process.env_mut()
        && !environment.iter().any(|pair| pair.starts_with("TERM="))
    {
        environment.push("TERM=xterm".into());
    }
    process
}
