//! Where a redirect leads, and whether it is followed. Pure.

use http::Uri;

use crate::registry::error::RequestError;

/// Redirects followed for one request.
pub(super) const LIMIT: usize = 10;

/// Scheme, host and port of a URL: what credentials are bound to.
pub(in crate::registry) fn origin(url: &Uri) -> (String, String, u16) {
    let scheme = url.scheme_str().unwrap_or("https").to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    (scheme, url.host().unwrap_or_default().to_ascii_lowercase(), port)
}

/// The URL that `location`, as answered to a request for `base`, leads to.
///
/// # Errors
/// [`RequestError::Redirect`] for what is no URL, for other schemes, from TLS to none, and with credentials in it.
pub(super) fn follow(base: &Uri, location: &str) -> Result<Uri, RequestError> {
    let refuse = |why| RequestError::Redirect {
        to: shown(location),
        why,
    };
    let target = resolve(base, location).ok_or_else(|| refuse("it is no URL"))?;
    let userinfo = target
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    match (base.scheme_str(), target.scheme_str()) {
        _ if userinfo => Err(refuse("it has credentials in it")),
        (Some("https"), Some("http")) => Err(refuse("it leads away from TLS")),
        (_, Some("http" | "https")) => Ok(target),
        _ => Err(refuse("its scheme is neither http nor https")),
    }
}

/// A location for a message, without what may be a secret: credentials, and what follows the path.
fn shown(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let path = path.rsplit('@').next().unwrap_or_default();
    path.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Resolves a reference against a base (RFC 3986, section 5.2, without dot segments).
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?.trim();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let whole = if has_scheme(location) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else if location.is_empty() {
        return None;
    } else {
        let directory = base
            .path()
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let target: Uri = whole.parse().ok()?;
    (target.host().is_some_and(|host| !host.is_empty())).then_some(target)
}

fn has_scheme(location: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    location
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(base: &str, location: &str) -> String {
        match follow(&base.parse().unwrap(), location) {
            Ok(url) => url.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn locations_are_resolved_as_urls_are() {
        let base = "https://reg.io:5000/v2/a/blobs/x?ns=b";
        assert_eq!(to(base, "https://cdn.io/x?sig=1#f"), "https://cdn.io/x?sig=1");
        assert_eq!(to(base, "//cdn.io/y"), "https://cdn.io/y");
        assert_eq!(to(base, "/y?z"), "https://reg.io:5000/y?z");
        assert_eq!(to(base, "y"), "https://reg.io:5000/v2/a/blobs/y");
        assert_eq!(to(base, "?q"), "https://reg.io:5000/v2/a/blobs/x?q");
    }

    #[test]
    fn what_must_not_be_followed_is_not() {
        let base = "https://reg.io/v2/";
        for bad in [
            "",
            "http://reg.io/x",
            "file:///etc/shadow",
            "https://u:p@x.io/",
            "https://",
            "gopher://x/",
        ] {
            assert!(
                to(base, bad).contains("is not followed"),
                "{bad}: {}",
                to(base, bad)
            );
        }
        let told = to(base, "http://x.io/y?token=secret");
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn an_origin_has_the_scheme_s_port() {
        let of = |url: &str| origin(&url.parse().unwrap());
        assert_eq!(of("https://A.io/x"), of("https://a.io:443/y"));
        assert_ne!(of("https://a.io/x"), of("http://a.io/x"));
        assert_ne!(of("http://a.io/x"), of("http://a.io:5000/x"));
    }
}
