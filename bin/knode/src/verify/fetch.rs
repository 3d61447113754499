//! Fetching a page: from this machine, and from inside a pod.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::http1;

/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The page at `url`, asked from this process's own network namespace.
pub async fn from_here(url: &str) -> anyhow::Result<String> {
    tokio::time::timeout(PATIENCE, get(url))
        .await
        .with_context(|| format!("no answer within {PATIENCE:?}"))?
}

async fn get(url: &str) -> anyhow::Result<String> {
    let uri: http::Uri = url.parse().context("not a URL")?;
    let authority = uri.authority().context("a URL without a host")?.clone();
    let address = (
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    );
    let stream = TcpStream::connect(address).await.context("connect")?;
    let page = http1::get(stream, authority.as_str(), uri.path()).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The page at `url`, asked by the small web program inside `container` of `pod`.
pub async fn from_inside(pods: &Api<Pod>, pod: &str, container: &str, url: &str) -> anyhow::Result<String> {
    let ask = async {
        let wanted = AttachParams::default()
            .container(container)
            .stderr(true)
            .stdout(true);
        let mut session = pods
            .exec(pod, ["/web", "get", url], &wanted)
            .await
            .context("exec")?;
        let mut page = String::new();
        let mut complaint = String::new();
        let mut out = session.stdout().context("no standard output")?;
        let mut err = session.stderr().context("no standard error")?;
        let (a, b) = tokio::join!(out.read_to_string(&mut page), err.read_to_string(&mut complaint));
        a.context("read the page")?;
        b.context("read the complaint")?;
        let status = session
            .take_status()
            .context("no status")?
            .await
            .context("no exit status")?;
        if status.status.as_deref() != Some("Success") {
            bail!("{} {}", complaint.trim(), status.message.unwrap_or_default());
        }
        Ok(page)
    };
    tokio::time::timeout(PATIENCE * 2, ask)
        .await
        .with_context(|| format!("no answer within {:?}", PATIENCE * 2))?
}
