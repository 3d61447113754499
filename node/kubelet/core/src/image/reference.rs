//! Image references (the grammar of `distribution/reference`).

/// A name that is no image reference; `Display` is upstream's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": {reason}")]
pub struct InvalidName {
    name: String,
    reason: String,
}

/// `name` with `:latest` where it has neither tag nor digest.
///
/// # Errors
/// If it is not an image reference.
pub fn with_default_tag(name: &str) -> Result<String, InvalidName> {
    let invalid = |reason: String| InvalidName {
        name: name.to_owned(),
        reason,
    };
    let format = || invalid("invalid reference format".to_owned());
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
        Some(_) => return Err(format()),
        None => (name, None),
    };
    let (repository, tag) = split_tag(rest);
    if tag.is_some_and(|tag| !is_tag(tag)) || repository.is_empty() {
        return Err(uppercase(rest).map_or_else(format, invalid));
    }
    if !is_repository(repository) {
        return Err(uppercase(rest).map_or_else(format, invalid));
    }
    match (tag, digest) {
        (None, None) => Ok(format!("{name}:latest")),
        _ => Ok(name.to_owned()),
    }
}

fn split_tag(text: &str) -> (&str, Option<&str>) {
    let slash = text.rfind('/').map_or(0, |index| index + 1);
    match text[slash..].find(':') {
        Some(colon) => (&text[..slash + colon], Some(&text[slash + colon + 1..])),
        None => (text, None),
    }
}

/// Upstream looks at the letters before the rest: a repository with capitals gets a reason of its own.
fn uppercase(rest: &str) -> Option<String> {
    let (domain, path) = match rest.split_once('/') {
        Some((first, path)) if is_domain_like(first) => (Some(first), path),
        _ => (None, rest),
    };
    let path = path.split(':').next().unwrap_or(path);
    if !path.chars().any(char::is_uppercase) {
        return None;
    }
    let full = match domain {
        None if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    Some(format!(
        "invalid reference format: repository name ({full}) must be lowercase"
    ))
}

fn is_domain_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn is_repository(text: &str) -> bool {
    let (domain, path) = match text.split_once('/') {
        Some((first, path)) if is_domain_like(first) => (Some(first), path),
        _ => (None, text),
    };
    domain.is_none_or(is_domain) && path.split('/').all(is_component)
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let letters = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
    };
    let v6 = host.starts_with('[') && host.ends_with(']');
    let port = port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()));
    port && !host.is_empty() && (v6 || letters(host))
}

/// Lower-case letters and digits with single separators (`.`, `_`, `__`, dashes) between them.
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = text.starts_with(word) && text.ends_with(word);
    let separators = text.split(word).filter(|separator| !separator.is_empty());
    let good = |separator: &str| matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-');
    ends && separators.into_iter().all(good)
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_tag_get_latest() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for (name, full) in [
            ("busybox", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("127.0.0.1:5000/nothere", "127.0.0.1:5000/nothere:latest"),
            ("127.0.0.1:5000/nothere:1", "127.0.0.1:5000/nothere:1"),
            (
                "registry.k8s.io/e2e-test-images/busybox:1.37.0-1",
                "registry.k8s.io/e2e-test-images/busybox:1.37.0-1",
            ),
            ("a/b__c.d--e", "a/b__c.d--e:latest"),
            (&digest, &digest),
        ] {
            assert_eq!(with_default_tag(name).as_deref(), Ok(full), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let error = with_default_tag("Bad Image:::").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Failed to apply default image tag \"Bad Image:::\": couldn't parse image name \"Bad Image:::\": \
             invalid reference format: repository name (library/Bad Image) must be lowercase"
        );
        for name in ["", "a b", "a:", "a/", "-a", "a@sha256:zz", "a__"] {
            let error = with_default_tag(name).unwrap_err();
            assert!(
                error.to_string().ends_with("invalid reference format"),
                "{name}: {error}"
            );
        }
    }
}
