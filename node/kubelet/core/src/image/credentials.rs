//! Credentials for a registry out of image pull secrets (upstream: `pkg/credentialprovider`).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use knode_cri::AuthConfig;
use serde::Deserialize;

use crate::credentials::matches;

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
}

/// The credentials in `secrets` that fit `image`, the closest first.
pub fn credentials<'a>(image: &str, secrets: impl Iterator<Item = &'a Secret>) -> Vec<AuthConfig> {
    fitting(&repository(image), secrets.flat_map(entries))
}

/// The credentials in a `config.json` of Docker's that fit `repository`, the closest first. What helper programs hold
/// is none, as for upstream's kubelet.
pub fn docker_credentials(repository: &str, file: &[u8]) -> Vec<AuthConfig> {
    match serde_json::from_slice::<DockerConfigJson>(file) {
        Ok(file) => fitting(repository, file.auths.into_iter()),
        Err(error) => {
            tracing::warn!(%error, "the node's registry credentials cannot be understood");
            Vec::new()
        }
    }
}

fn fitting(repository: &str, entries: impl Iterator<Item = (String, Entry)>) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for (address, entry) in entries {
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
            let config = AuthConfig {
                username: entry.username,
                password: entry.password,
                auth: entry.auth,
                server_address: address.clone(),
                ..AuthConfig::default()
            };
            found.push((place.len(), config));
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, config)| config).collect()
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

/// The image's name with its registry.
fn registry_path(image: &str) -> String {
    match image.split_once('/') {
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
            credentials(image, [&one].into_iter())
                .into_iter()
                .map(|config| config.username)
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
            let found = credentials(image, [&one].into_iter());
            found.into_iter().map(|config| config.username).collect()
        };
        assert_eq!(names("a.reg.io/x@sha256:1"), ["star"]);
        assert_eq!(names("reg.io:5000/x:1"), ["port"]);
        assert!(names("reg.io/x").is_empty());
        assert_eq!(repository("nginx"), "docker.io/library/nginx");
        assert_eq!(repository("reg.io:5000/x:1@sha256:2"), "reg.io:5000/x");
        let file = br#"{"auths": {"docker.io": {"auth": "dTpw"}}, "credsStore": "pass"}"#;
        assert_eq!(
            docker_credentials("docker.io/library/nginx", file)[0].auth,
            "dTpw"
        );
        assert!(docker_credentials("docker.io/x", b"no").is_empty());
    }
}
