//! Credentials, and what registries ask for them.

mod challenge;
mod token;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;

use super::error::RequestError;
use super::http::{Answer, Client, origin};
use challenge::Challenge;

/// Credentials for one pull.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Auth {
    /// None; an anonymous token is fetched where the registry asks for one.
    #[default]
    Anonymous,
    /// User and password, sent to the registry or to the token service that it names, when it asks for them.
    Basic {
        /// The user.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// A token for the registry itself.
    Bearer(String),
    /// A refresh token, exchanged for a token at the service that the registry names (OAuth 2).
    Identity(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

/// The header that answers the challenge of `answer`, a 401 of the origin that was asked.
pub(super) async fn authorize(
    client: &Client,
    answer: &Answer,
    asked: &http::Uri,
    repository: &str,
    auth: &Auth,
) -> Result<HeaderValue, RequestError> {
    let denied = |why: &str| RequestError::Unauthorized(why.to_owned());
    let challenges = answer.headers.get_all(WWW_AUTHENTICATE);
    let challenges: Vec<Challenge> = challenges
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect();
    let bearer = challenges
        .iter()
        .find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
    let basic = challenges
        .iter()
        .any(|challenge| challenge.scheme.eq_ignore_ascii_case("basic"));
    let text = match (auth, bearer, basic) {
        (Auth::Bearer(token), _, _) => format!("Bearer {token}"),
        (_, Some(bearer), _) => {
            let (from, ..) = origin(asked);
            let token = token::fetch(client, bearer, &from, repository, auth).await?;
            format!("Bearer {token}")
        }
        (Auth::Basic { username, password }, None, true) => basic_header(username, password),
        (_, None, true) => return Err(denied("no basic auth credentials")),
        (_, None, false) => return Err(denied("the registry says 401 and not what it wants")),
    };
    sensitive(&text)
}

fn basic_header(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn sensitive(text: &str) -> Result<HeaderValue, RequestError> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| {
        RequestError::Unauthorized("the credentials have characters that a header cannot carry".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads any text as challenges.
pub(crate) fn fuzz(text: &str) {
    drop(challenge::parse(text));
}
