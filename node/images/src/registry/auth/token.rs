//! Tokens from the service that a registry names (distribution's token and OAuth 2 specifications).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;

use super::challenge::Challenge;
use super::{Auth, basic_header, sensitive};
use crate::registry::error::RequestError;
use crate::registry::http::{Answer, Client, Request};

/// Largest answer of a token service.
const LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// A token to read `repository`. `from` is the scheme by which the registry itself is spoken to.
pub(super) async fn fetch(
    client: &Client,
    challenge: &Challenge,
    from: &str,
    repository: &str,
    auth: &Auth,
) -> Result<String, RequestError> {
    let realm = challenge
        .parameters
        .get("realm")
        .map(String::as_str)
        .unwrap_or_default();
    let realm = check_realm(realm, from)?;
    let request = match auth {
        Auth::Identity(refresh) => exchange(&realm, challenge, repository, refresh)?,
        _ => ask(&realm, challenge, repository, auth)?,
    };
    let answer = client.send(request).await?;
    read(answer).await
}

/// A realm must be a URL, and with TLS where the registry is.
fn check_realm(realm: &str, from: &str) -> Result<Uri, RequestError> {
    let refuse = |why: &str| RequestError::Token(format!("token service {realm:?}: {why}"));
    let url: Uri = realm.parse().map_err(|_| refuse("not a URL"))?;
    match (url.scheme_str(), from) {
        (Some("https"), _) | (Some("http"), "http") => {}
        (Some("http"), _) => return Err(refuse("credentials would leave TLS")),
        _ => return Err(refuse("neither http nor https")),
    }
    let authority = url
        .authority()
        .map(http::uri::Authority::as_str)
        .unwrap_or_default();
    match authority.is_empty() || authority.contains('@') {
        true => Err(refuse("not a URL of a service")),
        false => Ok(url),
    }
}

fn scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

fn ask(realm: &Uri, challenge: &Challenge, repository: &str, auth: &Auth) -> Result<Request, RequestError> {
    let mut query = realm.query().map(|query| format!("{query}&")).unwrap_or_default();
    if let Some(service) = challenge.parameters.get("service") {
        query.push_str(&format!("service={}&", escape(service)));
    }
    query.push_str(&format!("scope={}", escape(&scope(repository))));
    let (scheme, authority) = (realm.scheme_str().unwrap_or("https"), realm.authority());
    let url = Uri::builder()
        .scheme(scheme)
        .authority(authority.map(http::uri::Authority::as_str).unwrap_or_default())
        .path_and_query(format!("{}?{query}", realm.path()))
        .build()
        .map_err(|error| RequestError::Token(error.to_string()))?;
    let mut request = Request::new(Method::GET, url);
    if let Auth::Basic { username, password } = auth {
        request.authorization = Some(sensitive(&basic_header(username, password))?);
    }
    Ok(request)
}

fn exchange(
    realm: &Uri,
    challenge: &Challenge,
    repository: &str,
    refresh: &str,
) -> Result<Request, RequestError> {
    let service = challenge
        .parameters
        .get("service")
        .map(String::as_str)
        .unwrap_or_default();
    let fields = [
        ("grant_type", "refresh_token"),
        ("service", service),
        ("client_id", "knode"),
        ("scope", &scope(repository)),
        ("refresh_token", refresh),
    ];
    let form: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    let mut request = Request::new(Method::POST, realm.clone());
    request.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    request.body = Bytes::from(form.join("&"));
    Ok(request)
}

async fn read(answer: Answer) -> Result<String, RequestError> {
    let status = answer.status;
    if !status.is_success() {
        let denied = matches!(status.as_u16(), 400 | 401 | 403);
        return Err(match denied {
            true => RequestError::Unauthorized(format!("the token service answers {status}")),
            false if status.is_server_error() || status.as_u16() == 429 => {
                crate::registry::repository::refused(answer).await
            }
            false => RequestError::Token(format!("unexpected status {status}")),
        });
    }
    let bytes = answer.body.whole(LIMIT).await?;
    let granted: Granted = serde_json::from_slice(&bytes)
        .map_err(|error| RequestError::Token(format!("the answer is no token: {error}")))?;
    let token = match granted.token.is_empty() {
        true => granted.access_token,
        false => granted.token,
    };
    match token.is_empty() {
        true => Err(RequestError::Token("the answer has no token".to_owned())),
        false => Ok(token),
    }
}

/// Percent-encoding of everything that is not unreserved (RFC 3986).
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            other => write!(escaped, "%{other:02X}").expect("writing to a string cannot fail"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_may_add_tls_but_not_take_it_away() {
        assert!(check_realm("https://a.io/t", "http").is_ok());
        assert!(check_realm("http://a.io/t", "http").is_ok());
        for bad in ["http://a.io/t", "", "a.io", "ftp://a.io", "https://u:p@a.io/"] {
            assert!(check_realm(bad, "https").is_err(), "{bad}");
        }
    }

    #[test]
    fn the_question_names_service_and_scope() {
        let challenge = super::super::challenge::parse(r#"Bearer service="a b""#).remove(0);
        let realm = "https://a.io/t?x=1".parse().unwrap();
        let request = ask(&realm, &challenge, "team/app", &Auth::Anonymous).unwrap();
        assert_eq!(
            request.url.to_string(),
            "https://a.io/t?x=1&service=a%20b&scope=repository%3Ateam%2Fapp%3Apull"
        );
        assert!(request.authorization.is_none());
    }
}
