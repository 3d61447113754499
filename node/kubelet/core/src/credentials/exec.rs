//! Running a plugin: a request on its standard input, a response on its standard output.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use knode_cri::AuthConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::account::{AccountError, Identity};
use super::cache::{CacheKey, Credentials};
use super::config::{Provider, ProvidersError, duration};

/// How long a plugin may take, as upstream's kubelet gives it.
const LIMIT: Duration = Duration::from_secs(60);
/// Largest answer, and largest text of a failure.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Why a plugin gave no credentials. What it printed is not repeated: there may be secrets in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("it cannot be run: {0}")]
    Run(#[source] std::io::Error),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    #[error("its answer cannot be read: {0}")]
    Answer(#[source] serde_json::Error),
    #[error("its answer is invalid: {0}")]
    Invalid(String),
}

/// What a plugin answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub key: CacheKey,
    /// How long it may be kept, if it says.
    pub keep: Option<Duration>,
    pub credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    api_version: String,
    kind: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// A plugin must be a program.
pub(super) fn check(program: &Path) -> Result<(), ProvidersError> {
    let unusable = |source| ProvidersError::Program {
        path: program.to_owned(),
        source,
    };
    let meta = std::fs::metadata(program).map_err(unusable)?;
    match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(unusable(std::io::ErrorKind::PermissionDenied.into())),
    }
}

/// Asks a plugin for credentials for `image`, for a pod of the service account that `identity` tells.
pub(super) async fn run(
    program: &Path,
    provider: &Provider,
    image: &str,
    identity: &Identity,
) -> Result<Answer, ExecError> {
    let request = request(provider, image, identity);
    let output = tokio::time::timeout(LIMIT, output(program, provider, &request)).await;
    let output = output.map_err(|_| ExecError::Timeout(LIMIT))??;
    read(&output, &provider.api_version)
}

/// What the plugin reads.
fn request(provider: &Provider, image: &str, identity: &Identity) -> Value {
    let mut request = json!({
        "apiVersion": provider.api_version,
        "kind": "CredentialProviderRequest",
        "image": image,
    });
    if let Some(token) = &identity.token {
        request["serviceAccountToken"] = token.as_str().into();
    }
    if !identity.annotations.is_empty() {
        request["serviceAccountAnnotations"] = json!(identity.annotations);
    }
    request
}

async fn output(program: &Path, provider: &Provider, request: &Value) -> Result<Vec<u8>, ExecError> {
    let variables = provider
        .env
        .iter()
        .map(|variable| (&variable.name, &variable.value));
    let mut child = Command::new(program)
        .args(&provider.args)
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(ExecError::Run)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ExecError::Run(std::io::ErrorKind::BrokenPipe.into()));
    };
    let ask = async {
        // A plugin that needs no request may end before it has read it.
        drop(stdin.write_all(request.to_string().as_bytes()).await);
        drop(stdin);
    };
    let mut bytes = Vec::new();
    let mut stdout = stdout.take(ANSWER_LIMIT + 1);
    let ((), read) = tokio::join!(ask, stdout.read_to_end(&mut bytes));
    read.map_err(ExecError::Run)?;
    if bytes.len() as u64 > ANSWER_LIMIT {
        return Err(ExecError::Invalid("it is longer than 1 MiB".to_owned()));
    }
    let status = child.wait().await.map_err(ExecError::Run)?;
    match status.success() {
        true => Ok(bytes),
        false => Err(ExecError::Failed(status)),
    }
}

fn read(bytes: &[u8], api_version: &str) -> Result<Answer, ExecError> {
    let response: Response = serde_json::from_slice(bytes).map_err(ExecError::Answer)?;
    let invalid = |what: String| Err(ExecError::Invalid(what));
    if response.kind != "CredentialProviderResponse" || response.api_version != api_version {
        return invalid(format!("{} of {}", response.kind, response.api_version));
    }
    let key = match response.cache_key_type.as_str() {
        "Image" => CacheKey::Image,
        "Registry" => CacheKey::Registry,
        "Global" => CacheKey::Global,
        other => return invalid(format!("cacheKeyType {other:?}")),
    };
    let keep = match response.cache_duration.as_deref().map(duration) {
        None => None,
        Some(Some(keep)) => Some(keep),
        Some(None) => return invalid("cacheDuration is no duration".to_owned()),
    };
    let entries = response.auth.unwrap_or_default().into_iter();
    let credentials = entries.map(|(pattern, entry)| {
        let auth = AuthConfig {
            username: entry.username,
            password: entry.password,
            ..AuthConfig::default()
        };
        (pattern, auth)
    });
    Ok(Answer {
        key,
        keep,
        credentials: credentials.collect(),
    })
}
