//! Image references: normal form of what people write (`nginx` is `docker.io/library/nginx:latest`).
//!
//! The grammar is that of the distribution project's `reference` package.

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Why a reference has no valid form. The texts are those that clients know from upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("invalid reference format: repository name must have at least one component")]
    Empty,
    /// Upper-case letters in the repository's name.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Over 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// An image id where a name must be.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Anything else.
    #[error("invalid reference format")]
    Format,
}

/// A reference in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry with its port, such as `docker.io` or `127.0.0.1:5000`.
    pub domain: String,
    /// Repository, such as `library/nginx`.
    pub path: String,
    /// The tag; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises.
    ///
    /// # Errors
    /// [`Error::Reference`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|source| Error::Reference {
            reference: text.to_owned(),
            source,
        })
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The form `name:tag`, when the image was asked for by a tag alone.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// The form `name@digest` with any digest.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// The host part of the domain, without its port and brackets.
    pub fn host(&self) -> &str {
        if let Some(rest) = self.domain.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.domain.split(':').next().unwrap_or(&self.domain)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if text.len() == 64 && is_hex(text) {
        return Err(ReferenceError::LooksLikeId(text.to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).ok_or(ReferenceError::Format)?)),
        None => (text, None),
    };
    let (domain, remainder) = split_domain(rest);
    let (path, tag) = match remainder.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (remainder, None),
    };
    let path = match domain {
        "docker.io" if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    check_path(&path)?;
    check_domain(domain)?;
    if domain.len() + 1 + path.len() > 255 {
        return Err(ReferenceError::TooLong);
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Format);
    }
    let tag = tag
        .map(str::to_owned)
        .or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Reference {
        domain: domain.to_owned(),
        path,
        tag,
        digest,
    })
}

/// A first component is a registry if it looks like a host: a dot, a port, an upper-case letter, or `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => ("docker.io", rest),
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => ("docker.io", text),
    }
}

fn looks_like_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.split('/').all(is_component) {
        return Ok(());
    }
    if path
        .split('/')
        .any(|part| is_component(&part.to_lowercase()) && part != part.to_lowercase())
        || path.chars().any(|c| c.is_ascii_uppercase())
    {
        return Err(ReferenceError::Uppercase(path.to_owned()));
    }
    Err(ReferenceError::Format)
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn check_domain(domain: &str) -> Result<(), ReferenceError> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(ReferenceError::Format)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(ReferenceError::Format);
            }
            return port
                .is_empty()
                .then_some(())
                .or_else(|| port_is_valid(port.strip_prefix(':')?))
                .ok_or(ReferenceError::Format);
        }
        None => domain
            .split_once(':')
            .map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|port| port_is_valid(port).is_none()) || !host.split('.').all(is_host_label) {
        return Err(ReferenceError::Format);
    }
    Ok(())
}

fn port_is_valid(port: &str) -> Option<()> {
    (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
}

fn is_host_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inside)
}

fn is_tag(tag: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| first(byte) || byte == b'.' || byte == b'-';
    tag.len() <= 128 && tag.bytes().next().is_some_and(first) && tag.bytes().all(rest)
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Reference::parse(text)
            .map(|reference| reference.to_string())
            .unwrap_or_else(|error| error.chain())
    }

    #[test]
    fn short_names_become_whole() {
        for (short, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("user/app", "docker.io/user/app:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("a__b/c---d.e", "docker.io/a__b/c---d.e:latest"),
        ] {
            assert_eq!(normal(short), whole);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            normal(&format!("nginx@{digest}")),
            format!("docker.io/library/nginx@{digest}")
        );
        assert_eq!(
            normal(&format!("nginx:1@{digest}")),
            format!("docker.io/library/nginx:1@{digest}")
        );
        assert_eq!(
            Reference::parse(&format!("nginx:1@{digest}")).unwrap().tagged(),
            None
        );
    }

    #[test]
    fn bad_names_are_told_as_upstream_tells_them() {
        let expected = "couldn't parse image name \"Bad Image:::\": \
                        invalid reference format: repository name (library/Bad Image) must be lowercase";
        assert!(
            normal("Bad Image:::")
                .starts_with("couldn't parse image name \"Bad Image:::\": invalid reference")
        );
        assert_eq!(normal("Bad Image"), expected.replace(":::", ""));
        for bad in [
            "",
            "a//b",
            "-a",
            "a:",
            "a:b c",
            "a@sha256:12",
            "ho_st.x/a",
            "x.y:port/a",
            "a..b",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad} was taken");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err());
        assert!(Reference::parse(&format!("x.y/{}", "a".repeat(255))).is_err());
    }
}
