//! Which images a pattern of registry, port and path stands for. Pure (upstream: `URLsMatch`).

use knode_cri::AuthConfig;

/// A pattern's or image's parts.
struct Parts<'a> {
    host: &'a str,
    port: Option<&'a str>,
    path: &'a str,
}

fn parts(text: &str) -> Parts<'_> {
    let text = text.trim_start_matches("https://").trim_start_matches("http://");
    let (place, path) = match text.split_once('/') {
        Some((place, path)) => (place, path),
        None => (text, ""),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    Parts { host, port, path }
}

/// Whether `pattern` stands for `image`, a repository with its registry: as many parts in the host's name, each
/// matching with `*` for any letters of one part; the same port; and a path that begins with the pattern's.
pub(crate) fn matches(pattern: &str, image: &str) -> bool {
    let (pattern, image) = (parts(pattern), parts(image));
    let (wanted, found): (Vec<_>, Vec<_>) =
        (pattern.host.split('.').collect(), image.host.split('.').collect());
    let path = pattern.path.trim_end_matches('/');
    wanted.len() == found.len()
        && pattern.port == image.port
        && image.path.starts_with(path)
        && wanted
            .iter()
            .zip(&found)
            .all(|(glob, part)| glob_matches(glob, part))
}

/// `*` stands for any letters, `?` for one.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    // Where the last star is, and where in the text what follows it was tried.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[place] => {
                at += 1;
                place += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((after, tried)) => {
                    *tried += 1;
                    (at, place) = (*after + 1, *tried);
                }
            },
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

/// Of credentials by pattern those that fit `image`, the closest first: longer patterns sort after their beginnings.
pub(super) fn closest(image: &str, credentials: &[(String, AuthConfig)]) -> Vec<AuthConfig> {
    let mut fitting: Vec<_> = credentials
        .iter()
        .filter(|(pattern, _)| matches(pattern, image))
        .collect();
    fitting.sort_by(|(one, _), (other, _)| other.cmp(one));
    fitting.into_iter().map(|(_, auth)| auth.clone()).collect()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn patterns_stand_for_hosts_ports_and_beginnings_of_paths() {
        for (pattern, image, fits) in [
            ("registry.io", "registry.io/team/app", true),
            ("https://registry.io", "registry.io/team/app", true),
            ("*.azurecr.io", "my.azurecr.io/app", true),
            ("*.io", "my.azurecr.io/app", false),
            ("*.*.registry.io", "a.b.registry.io/x", true),
            ("*.registry.io", "a.b.registry.io/x", false),
            ("app*.registry.io", "app12.registry.io/x", true),
            ("registry.*", "registry.com/x", true),
            ("registry.io:8080/path", "registry.io:8080/path/app", true),
            ("registry.io:8080/path", "registry.io/path/app", false),
            ("registry.io", "registry.io:8080/app", false),
            ("registry.io/team/", "registry.io/team/app", true),
            ("registry.io/other", "registry.io/team/app", false),
            ("[::1]:5000", "[::1]:5000/app", true),
            ("", "registry.io/app", false),
        ] {
            assert_eq!(matches(pattern, image), fits, "{pattern} and {image}");
        }
    }

    #[test]
    fn a_star_stops_where_the_rest_begins() {
        for (glob, text, fits) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abcabc", true),
            ("a*b", "abcabc", false),
            ("a?c", "abc", true),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(glob_matches(glob, text), fits, "{glob} and {text}");
        }
    }
}
