//! Credentials for a registry out of image pull secrets (upstream: `pkg/credentialprovider`).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use knode_cri::AuthConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::with_default_tag;
use crate::credentials::matches;
use crate::pulls::PullSecret;

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    email: String,
}

/// The credentials in `secrets` that fit `image`, the closest first, each with where it is from.
pub fn secret_credentials<'a>(
    image: &str,
    secrets: impl Iterator<Item = &'a Secret>,
) -> Vec<(AuthConfig, PullSecret)> {
    let all = secrets.flat_map(|secret| {
        let entries = entries(secret).into_iter();
        entries.map(move |(address, entry)| {
            let source = source(secret, &entry);
            (address, entry, source)
        })
    });
    fitting(&repository(image), all)
}

/// Which secret an entry is of, and its hash.
fn source(secret: &Secret, entry: &Entry) -> PullSecret {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    PullSecret {
        namespace: text(&secret.metadata.namespace),
        name: text(&secret.metadata.name),
        uid: text(&secret.metadata.uid),
        credential_hash: entry.hash().unwrap_or_default(),
    }
}

impl Entry {
    /// User and password, in either form. None if they cannot be read.
    fn login(&self) -> Option<(String, String)> {
        if self.auth.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let joined = decoded(&self.auth)?;
        let (username, password) = joined.split_once(':')?;
        Some((username.to_owned(), password.to_owned()))
    }

    /// As runtimes are told it: without the address, which is none of a URL for all of them.
    fn config(&self) -> AuthConfig {
        match self.login() {
            Some((username, password)) => AuthConfig {
                username,
                password,
                ..AuthConfig::default()
            },
            // The runtime says what is wrong with it.
            None => AuthConfig {
                auth: self.auth.clone(),
                ..AuthConfig::default()
            },
        }
    }

    /// Upstream's hash of it: SHA-256 of its JSON as Go writes that. None if it cannot be read.
    fn hash(&self) -> Option<String> {
        #[derive(Serialize)]
        struct Hashed<'a> {
            #[serde(skip_serializing_if = "String::is_empty")]
            username: String,
            #[serde(skip_serializing_if = "String::is_empty")]
            password: String,
            #[serde(skip_serializing_if = "str::is_empty")]
            email: &'a str,
        }
        let (username, password) = self.login()?;
        let hashed = Hashed {
            username,
            password,
            email: &self.email,
        };
        let mut json = serde_json::to_string(&hashed).ok()?;
        for (letter, escaped) in [
            ("<", "\\u003c"),
            (">", "\\u003e"),
            ("&", "\\u0026"),
            ("\u{2028}", "\\u2028"),
            ("\u{2029}", "\\u2029"),
        ] {
            json = json.replace(letter, escaped);
        }
        let digest = Sha256::digest(json);
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The text of an `auth` field, with or without padding.
fn decoded(auth: &str) -> Option<String> {
    let bare = auth.trim().trim_end_matches('=');
    let padded = format!("{bare}{}", "=".repeat((4 - bare.len() % 4) % 4));
    let ByteString(bytes) = serde_json::from_value(padded.into()).ok()?;
    String::from_utf8(bytes).ok()
}

/// The credentials in a `config.json` of Docker's that fit `repository`, the closest first. What helper programs hold
/// is none, as for upstream's kubelet.
pub fn docker_credentials(repository: &str, file: &[u8]) -> Vec<AuthConfig> {
    match serde_json::from_slice::<DockerConfigJson>(file) {
        Ok(file) => {
            let all = file.auths.into_iter();
            let found = fitting(repository, all.map(|(address, entry)| (address, entry, ())));
            found.into_iter().map(|(config, ())| config).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the node's registry credentials cannot be understood");
            Vec::new()
        }
    }
}

fn fitting<S>(repository: &str, entries: impl Iterator<Item = (String, Entry, S)>) -> Vec<(AuthConfig, S)> {
    let mut found: Vec<(usize, AuthConfig, S)> = Vec::new();
    for (address, entry, source) in entries {
        let place = address
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let place = place
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .trim_end_matches("/v2");
        let place = if place == "index.docker.io" {
            "docker.io"
        } else {
            place
        };
        if matches(place, repository) && ends_at_a_part(place, repository) {
            found.push((place.len(), entry.config(), source));
        }
    }
    found.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    found
        .into_iter()
        .map(|(_, config, source)| (config, source))
        .collect()
}

/// `team` is not the beginning of `teams`.
fn ends_at_a_part(place: &str, repository: &str) -> bool {
    let path = |text: &str| {
        text.split_once('/')
            .map_or(String::new(), |(_, path)| path.to_owned())
    };
    let (beginning, whole) = (path(place), path(repository));
    beginning.is_empty()
        || whole
            .strip_prefix(&beginning)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The repository that an image is in, with its registry, without tag and digest.
pub fn repository(image: &str) -> String {
    let whole = registry_path(image);
    let name = whole.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name.to_owned(),
        _ => name.to_owned(),
    }
}

/// The name by which a runtime knows `image`: with its registry, and with its digest or else its tag.
pub fn full_name(image: &str) -> String {
    let name = with_default_tag(image).unwrap_or_else(|_| image.to_owned());
    match name.split_once('@') {
        Some((_, digest)) => format!("{}@{digest}", repository(&name)),
        None => registry_path(&name),
    }
}

/// The image's name with its registry.
fn registry_path(image: &str) -> String {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", path)) if path.contains('/') => format!("docker.io/{path}"),
        Some(("docker.io" | "index.docker.io", path)) => format!("docker.io/library/{path}"),
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

fn entries(secret: &Secret) -> Vec<(String, Entry)> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|ByteString(data)| data)
    };
    if let Some(text) = data(".dockerconfigjson") {
        return serde_json::from_slice::<DockerConfigJson>(text)
            .map(|file| file.auths.into_iter().collect())
            .unwrap_or_default();
    }
    match data(".dockercfg").map(|text| serde_json::from_slice::<BTreeMap<String, Entry>>(text)) {
        Some(Ok(entries)) => entries.into_iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(json: &str) -> Secret {
        let data = BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            ByteString(json.as_bytes().to_vec()),
        )]);
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn the_closest_entry_comes_first() {
        let one = secret(
            r#"{"auths": {"https://reg.io": {"username": "wide"}, "reg.io/team": {"username": "near"}}}"#,
        );
        let names = |image: &str| -> Vec<String> {
            secret_credentials(image, [&one].into_iter())
                .into_iter()
                .map(|(config, _)| config.username)
                .collect()
        };
        assert_eq!(names("reg.io/team/app:1"), ["near", "wide"]);
        assert_eq!(names("reg.io/teams/app:1"), ["wide"]);
        assert!(names("reg.iot/app").is_empty());
        assert!(names("busybox").is_empty());
    }

    #[test]
    fn entries_may_have_stars_and_name_a_port() {
        let one =
            secret(r#"{"auths": {"*.reg.io": {"username": "star"}, "reg.io:5000": {"username": "port"}}}"#);
        let names = |image: &str| -> Vec<String> {
            let found = secret_credentials(image, [&one].into_iter());
            found.into_iter().map(|(config, _)| config.username).collect()
        };
        assert_eq!(names("a.reg.io/x@sha256:1"), ["star"]);
        assert_eq!(names("reg.io:5000/x:1"), ["port"]);
        assert!(names("reg.io/x").is_empty());
        assert_eq!(repository("nginx"), "docker.io/library/nginx");
        assert_eq!(repository("reg.io:5000/x:1@sha256:2"), "reg.io:5000/x");
        let file = br#"{"auths": {"docker.io": {"auth": "dTpw"}}, "credsStore": "pass"}"#;
        assert_eq!(
            docker_credentials("docker.io/library/nginx", file)[0].username,
            "u"
        );
        assert!(docker_credentials("docker.io/x", b"no").is_empty());
    }

    /// containerd takes an address for a URL, and credentials with another host for none.
    #[test]
    fn runtimes_are_told_user_and_password_alone() {
        let one = secret(
            r#"{"auths": {"a.io:5000": {"auth": "bWU6YTpi"}, "b.io": {"username": "me", "password": "p"},
                "c.io": {"auth": "?"}}}"#,
        );
        let of = |image: &str| secret_credentials(image, [&one].into_iter()).remove(0).0;
        let login = |username: &str, password: &str| AuthConfig {
            username: username.into(),
            password: password.into(),
            ..AuthConfig::default()
        };
        assert_eq!(of("a.io:5000/x"), login("me", "a:b"));
        assert_eq!(of("b.io/x"), login("me", "p"));
        let unread = AuthConfig {
            auth: "?".into(),
            ..AuthConfig::default()
        };
        assert_eq!(of("c.io/x"), unread);
    }

    #[test]
    fn credentials_say_which_secret_they_are_of() {
        let mut one = secret(
            r#"{"auths": {"a.io": {"auth": "dXNlcjpwYXNzd29yZA=="}, "b.io": {"username": "user", "password": "password"},
                "c.io": {"auth": "dXNlcjpwYXNzd29yZA"}, "d.io": {"username": "u", "password": "<&>", "email": "e@x"},
                "e.io": {"auth": "?"}, "f.io": {"auth": "dXNlcg=="}}}"#,
        );
        one.metadata.namespace = Some("ns".into());
        one.metadata.name = Some("s".into());
        one.metadata.uid = Some("u".into());
        let of = |image: &str| secret_credentials(image, [&one].into_iter()).remove(0).1;
        // What upstream's kubelet computes for this user and password in its own tests.
        let hash = "a55436fc140d516560d072c5fe8700385ce9f41629abf65c1edcbcb39fac691d";
        let expected = PullSecret {
            namespace: "ns".into(),
            name: "s".into(),
            uid: "u".into(),
            credential_hash: hash.into(),
        };
        for image in ["a.io/x", "b.io/x", "c.io/x"] {
            assert_eq!(of(image), expected, "{image}");
        }
        let text = r#"{"username":"u","password":"\u003c\u0026\u003e","email":"e@x"}"#;
        let escaped: String = Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(of("d.io/x").credential_hash, escaped);
        for image in ["e.io/x", "f.io/x"] {
            assert_eq!(of(image).credential_hash, "", "{image}");
        }
    }

    #[test]
    fn names_are_completed_as_runtimes_do() {
        for (image, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox:1", "docker.io/library/busybox:1"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("reg.io:5000/a", "reg.io:5000/a:latest"),
        ] {
            assert_eq!(full_name(image), full);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            full_name(&format!("reg.io/a:1@{digest}")),
            format!("reg.io/a@{digest}")
        );
    }
}
