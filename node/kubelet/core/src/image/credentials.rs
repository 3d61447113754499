//! Credentials for a registry out of image pull secrets (upstream: `pkg/credentialprovider`).

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use knode_cri::AuthConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct DockerConfigJson {
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
    let wanted = registry_path(image);
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for (address, entry) in secrets.flat_map(entries) {
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
        let fits = wanted
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']));
        if fits {
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
}
