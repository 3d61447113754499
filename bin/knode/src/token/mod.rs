//! `knode token`: the tokens with which machines join.

pub mod secret;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{BootstrapToken, public_key_hash};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};

use crate::cli::{TokenCommand, TokenCreate};
use secret::Known;

/// Runs one of the commands.
pub async fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(&args).await?,
        TokenCommand::List { kubeconfig } => list(&kubeconfig).await?,
        TokenCommand::Delete { tokens, kubeconfig } => delete(&tokens, &kubeconfig).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn secrets(kubeconfig: &Path) -> anyhow::Result<Api<Secret>> {
    let client = knode_client::from_kubeconfig(kubeconfig)
        .with_context(|| format!("use {}", kubeconfig.display()))?
        .client;
    Ok(Api::namespaced(client, secret::NAMESPACE))
}

async fn create(args: &TokenCreate) -> anyhow::Result<()> {
    let token = args.token.clone().unwrap_or_else(BootstrapToken::generate);
    let life = (!args.ttl.is_zero()).then_some(args.ttl);
    let object = secret::make(&token, life, &args.description, Timestamp::now());
    secrets(&args.kubeconfig)?
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("create Secret {}/{}", secret::NAMESPACE, token.secret_name()))?;
    println!("{}", join_line(&args.kubeconfig, &token)?);
    Ok(())
}

/// The command that a new machine is given.
fn join_line(kubeconfig: &Path, token: &BootstrapToken) -> anyhow::Result<String> {
    let access = Kubeconfig::load_access(kubeconfig)?;
    let ca = access.ca.context("the kubeconfig names no authority")?.read()?;
    let hash = public_key_hash(&ca)?;
    Ok(format!(
        "knode join {} --token {token} --ca-hash {hash}",
        access.server
    ))
}

async fn list(kubeconfig: &Path) -> anyhow::Result<()> {
    let only = ListParams::default().fields(&format!("type={}", secret::TYPE));
    let found = secrets(kubeconfig)?
        .list(&only)
        .await
        .context("list bootstrap tokens")?;
    let known: Vec<Known> = found.items.iter().filter_map(secret::read).collect();
    print!("{}", table(&known, Timestamp::now()));
    Ok(())
}

/// One line a token, as `kubeadm token list` has them; the secret half is not shown.
fn table(known: &[Known], now: Timestamp) -> String {
    let row = |[id, ttl, expires, usages, description]: [&str; 5]| {
        let line = format!("{id:<9}{ttl:<13}{expires:<22}{usages:<25}{description}");
        format!("{}\n", line.trim_end())
    };
    let mut text = row(["ID", "TTL", "EXPIRES", "USAGES", "DESCRIPTION"]);
    for token in known {
        let ttl = token.expires.map_or("<forever>".to_owned(), |end| left(end, now));
        let end = token.expires.map_or("<never>".to_owned(), |end| end.to_string());
        let usages = token.usages.join(",");
        text += &row([token.token.id(), &ttl, &end, &usages, &token.description]);
    }
    text
}

fn left(end: Timestamp, now: Timestamp) -> String {
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO {
        return "<invalid>".to_owned();
    }
    match (left.as_hours(), left.as_mins(), left.as_secs()) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, _) => format!("{minutes}m"),
        (hours, _, _) => format!("{hours}h"),
    }
}

async fn delete(tokens: &[String], kubeconfig: &Path) -> anyhow::Result<()> {
    let secrets = secrets(kubeconfig)?;
    for token in tokens {
        let id = token.split('.').next().unwrap_or(token);
        let plain = id.len() == 6 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ensure!(
            plain,
            "{token:?} is neither a token nor its first half, such as abcdef"
        );
        secrets
            .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
            .await
            .with_context(|| format!("delete token {id}"))?;
        println!("token {id} deleted");
    }
    Ok(())
}

/// A time such as `24h`, `90m` or `1h30m`; `0` for ever.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let refused = || format!("{text:?} is not a time such as 24h, 90m or 0 for ever");
    let span: SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(span).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_times() {
        assert_eq!(parse_ttl("24h").unwrap().as_secs(), 86_400);
        assert_eq!(parse_ttl("1h30m").unwrap().as_secs(), 5_400);
        assert_eq!(parse_ttl("0"), Ok(Duration::ZERO));
        assert!(parse_ttl("-1h").is_err());
        assert!(parse_ttl("soon").is_err());
    }

    #[test]
    fn the_list_shows_no_secret() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let known = |expires: Option<&str>| Known {
            token: "abcdef.0123456789abcdef".parse().unwrap(),
            expires: expires.map(|e| e.parse().unwrap()),
            description: "lab".into(),
            usages: vec!["authentication", "signing"],
        };
        let text = table(
            &[
                known(Some("2026-01-01T23:30:00Z")),
                known(None),
                known(Some("2025-12-31T00:00:00Z")),
            ],
            now,
        );
        let expected = "\
ID       TTL          EXPIRES               USAGES                   DESCRIPTION
abcdef   23h          2026-01-01T23:30:00Z  authentication,signing   lab
abcdef   <forever>    <never>               authentication,signing   lab
abcdef   <invalid>    2025-12-31T00:00:00Z  authentication,signing   lab
";
        assert_eq!(text, expected);
    }
}
