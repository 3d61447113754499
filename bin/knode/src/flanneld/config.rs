use std::process::ExitCode;

use anyhow::{Context, bail};
use knode_overlay::{Etcd, Flags, NetConf, Prefix, list_leases, read_config};

/// A command on what etcd holds: `config set JSON`, `config get`, `config leases`, with the flags of etcd before or
/// after. `None` when the arguments are not such a command.
pub async fn command(
    args: &[String],
    env: impl Fn(&str) -> Option<String>,
) -> Option<anyhow::Result<ExitCode>> {
    let (first, args) = args.split_first()?;
    (first == "config").then_some(())?;
    Some(execute(args, env).await)
}

async fn execute(args: &[String], env: impl Fn(&str) -> Option<String>) -> anyhow::Result<ExitCode> {
    let Some((verb, args)) = args.split_first() else {
        bail!("flanneld config: one of set, get, leases is needed");
    };
    let (_, _, rest) = Flags::parse_etcd(args, &env)?;
    let before = &args[..args.len() - rest.len()];
    let (value, after) = match rest.split_first() {
        Some((value, after)) => (Some(value), after),
        None => (None, &[][..]),
    };
    let (access, prefix, more) = Flags::parse_etcd(&[before, after].concat(), &env)?;
    if let Some(more) = more.first() {
        bail!("flanneld config: {more:?} is too much");
    }
    let etcd = Etcd::new(access)?;
    match (verb.as_str(), value) {
        ("set", Some(text)) => set(&etcd, &prefix, text).await,
        ("get", None) => get(&etcd, &prefix).await,
        ("leases", None) => leases(&etcd, &prefix).await,
        ("set", None) => bail!("flanneld config set: the configuration is needed, JSON"),
        (verb, _) => bail!("flanneld config {verb}: one of set JSON, get, leases is needed"),
    }
}

async fn set(etcd: &Etcd, prefix: &Prefix, text: &str) -> anyhow::Result<ExitCode> {
    NetConf::parse(text)?;
    etcd.put(&prefix.config(), text)
        .await
        .context("set the network's configuration")?;
    Ok(ExitCode::SUCCESS)
}

async fn get(etcd: &Etcd, prefix: &Prefix) -> anyhow::Result<ExitCode> {
    match read_config(etcd, prefix).await? {
        Some(text) => println!("{text}"),
        None => bail!(
            "etcd has no key {}: `flanneld config set JSON` makes it",
            prefix.config()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn leases(etcd: &Etcd, prefix: &Prefix) -> anyhow::Result<ExitCode> {
    for lease in list_leases(etcd, prefix).await? {
        let left = lease
            .seconds_left
            .map_or("reserved".to_owned(), |s| format!("{s}s"));
        println!("{}\t{left}\t{}", lease.key, lease.value);
    }
    Ok(ExitCode::SUCCESS)
}
