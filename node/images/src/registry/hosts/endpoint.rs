//! One endpoint, and the rules by which a configuration becomes endpoints. Pure.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::file::{HostEntry, HostsFile};
use crate::reference::Reference;
use crate::registry::error::HostsError;

/// Where requests for a repository go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https` or `http`.
    pub scheme: &'static str,
    /// Host with its port, if it names one.
    pub authority: String,
    /// What paths begin with: `/v2`, or what the configuration says.
    pub path: String,
    /// Tags may be resolved here.
    pub resolve: bool,
    /// Content may be fetched here.
    pub pull: bool,
    /// Sent with each request to this endpoint.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Time for a connection, where the configuration sets one.
    pub dial_timeout: Option<Duration>,
    /// The registry asked for, for a mirror that serves several.
    pub namespace: Option<String>,
}

/// Files with certificates for an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Authorities trusted besides the machine's own.
    pub ca: Vec<PathBuf>,
    /// Client certificates, each with its key, or both in one file.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// The server's certificate is not verified.
    pub skip_verify: bool,
}

impl Endpoint {
    /// The URL of a path of a repository, such as `manifests/latest`.
    pub(crate) fn url(&self, repository: &str, rest: &str) -> Result<Uri, http::Error> {
        let query = match &self.namespace {
            Some(namespace) => format!("?ns={namespace}"),
            None => String::new(),
        };
        Uri::builder()
            .scheme(self.scheme)
            .authority(self.authority.as_str())
            .path_and_query(format!("{}/{repository}/{rest}{query}", self.path))
            .build()
    }
}

/// The endpoints of a registry in the order in which they are tried: mirrors, then the registry itself. `plain` says
/// that it is spoken to without TLS unless the configuration has another scheme.
pub(super) fn plan(reference: &Reference, file: HostsFile, plain: bool) -> Result<Vec<Endpoint>, HostsError> {
    let HostsFile { server, hosts } = file;
    let mut endpoints = Vec::with_capacity(hosts.len() + 1);
    for (name, entry) in hosts {
        endpoints.push(of_entry(reference, &name, entry)?);
    }
    let server_name = server.url.clone().unwrap_or_default();
    endpoints.push(match server_name.is_empty() {
        false => of_entry(reference, &server_name, server)?,
        true => upstream(reference, server, plain),
    });
    Ok(endpoints)
}

/// The registry itself.
fn upstream(reference: &Reference, entry: HostEntry, plain: bool) -> Endpoint {
    let authority = match reference.domain.as_str() {
        "docker.io" => "registry-1.docker.io".to_owned(),
        other => other.to_owned(),
    };
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|port| !port.contains(']'));
    // Certificates are given for TLS, and 443 is its port.
    let secure = !plain || port == Some("443") || entry.tls != TlsFiles::default();
    Endpoint {
        scheme: if secure { "https" } else { "http" },
        authority,
        path: "/v2".into(),
        resolve: entry.resolve,
        pull: entry.pull,
        headers: entry.headers,
        tls: entry.tls,
        dial_timeout: entry.dial_timeout,
        namespace: None,
    }
}

fn of_entry(reference: &Reference, name: &str, entry: HostEntry) -> Result<Endpoint, HostsError> {
    let invalid = |reason: &str| HostsError::Field {
        host: name.to_owned(),
        field: "host",
        reason: reason.to_owned(),
    };
    let whole = match name.contains("://") {
        true => name.to_owned(),
        false => format!("https://{name}"),
    };
    let url: Uri = whole.parse().map_err(|_| invalid("not a URL"))?;
    let scheme = match url.scheme_str() {
        Some("http") => "http",
        Some("https") => "https",
        _ => return Err(invalid("neither http nor https")),
    };
    let authority = url.authority().ok_or_else(|| invalid("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(invalid("it has credentials in it"));
    }
    let authority = match authority.as_str() {
        "docker.io" => "registry-1.docker.io".to_owned(),
        other => other.to_owned(),
    };
    let path = url.path().trim_end_matches('/');
    let path = match entry.override_path || path.ends_with("/v2") {
        true => path.to_owned(),
        false => format!("{path}/v2"),
    };
    let own = authority == reference.domain
        || (reference.domain == "docker.io" && authority == "registry-1.docker.io");
    Ok(Endpoint {
        scheme,
        path,
        resolve: entry.resolve,
        pull: entry.pull,
        headers: entry.headers,
        tls: entry.tls,
        dial_timeout: entry.dial_timeout,
        namespace: (!own).then(|| reference.domain.clone()),
        authority,
    })
}
