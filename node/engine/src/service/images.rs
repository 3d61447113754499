//! `runtime.v1.ImageService` over the image store.

use async_trait::async_trait;
use knode_cri::*;
use knode_images::{Auth, Image as StoredImage, Reference};

use crate::engine::{Engine, now_nanos};
use crate::error::{EngineError, Result};

fn name(spec: Option<ImageSpec>) -> Result<String> {
    let name = spec.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() {
        Err(EngineError::Invalid("the request names no image".into()))
    } else {
        Ok(name)
    }
}

fn to_cri(image: &StoredImage) -> Image {
    let (uid, username) = user(&image.config.user);
    Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid,
        username,
        spec: None,
        pinned: image.pinned,
    }
}

/// The user of an image: a number or a name, its group left out.
fn user(text: &str) -> (Option<Int64Value>, String) {
    let user = text.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(value) => (Some(Int64Value { value }), String::new()),
        Err(_) => (None, user.to_string()),
    }
}

/// Credentials of the kubelet for an image: `auth` is `user:password` in base64. Those of another registry stay here.
fn auth(given: Option<AuthConfig>, reference: &str) -> Result<Auth> {
    let Some(given) = given.filter(|given| is_meant(&given.server_address, reference)) else {
        return Ok(Auth::Anonymous);
    };
    if !given.registry_token.is_empty() {
        return Ok(Auth::Bearer(given.registry_token));
    }
    if !given.identity_token.is_empty() {
        return Ok(Auth::Identity(given.identity_token));
    }
    if !given.username.is_empty() {
        return Ok(Auth::Basic {
            username: given.username,
            password: given.password,
        });
    }
    if given.auth.is_empty() {
        return Ok(Auth::Anonymous);
    }
    use base64::Engine as _;
    let broken =
        || EngineError::Invalid("the credentials for the registry are not base64 of user:password".into());
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(given.auth)
        .map_err(|_| broken())?;
    let text = String::from_utf8(bytes).map_err(|_| broken())?;
    let (username, password) = text.split_once(':').ok_or_else(broken)?;
    Ok(Auth::Basic {
        username: username.into(),
        password: password.trim_matches('\0').into(),
    })
}

/// Whether credentials that name a server, by URL or as `host:port`, are for the registry of this image.
fn is_meant(server: &str, reference: &str) -> bool {
    let Ok(reference) = Reference::parse(reference) else {
        return false;
    };
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = match server.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    host.is_empty() || host == reference.domain
}

#[async_trait]
impl ImageService for Engine {
    async fn list_images(&self, request: ListImagesRequest) -> CriResult<ListImagesResponse> {
        let wanted = request
            .filter
            .and_then(|filter| filter.image)
            .map(|spec| spec.image)
            .unwrap_or_default();
        let store = &self.core.config.images;
        let found = if wanted.is_empty() {
            store.list()
        } else {
            store.status(&wanted).into_iter().collect()
        };
        Ok(ListImagesResponse {
            images: found.iter().map(to_cri).collect(),
        })
    }

    async fn image_status(&self, request: ImageStatusRequest) -> CriResult<ImageStatusResponse> {
        let store = &self.core.config.images;
        let found = store.status(&name(request.image)?);
        let mut info = std::collections::HashMap::new();
        if let (Some(image), true) = (&found, request.verbose) {
            let config = store.config_blob(image.id.as_str()).map_err(EngineError::from)?;
            let spec: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
            let text = serde_json::json!({ "imageSpec": spec }).to_string();
            info.insert("info".to_string(), text);
        }
        Ok(ImageStatusResponse {
            image: found.as_ref().map(to_cri),
            info,
        })
    }

    async fn pull_image(&self, request: PullImageRequest) -> CriResult<PullImageResponse> {
        let reference = name(request.image)?;
        let image = self
            .core
            .config
            .images
            .pull(&reference, &auth(request.auth, &reference)?)
            .await;
        let image = image.map_err(EngineError::from)?;
        Ok(PullImageResponse {
            image_ref: image.id.to_string(),
        })
    }

    async fn remove_image(&self, request: RemoveImageRequest) -> CriResult<RemoveImageResponse> {
        let store = self.core.config.images.clone();
        let reference = name(request.image)?;
        // A tag of an image with several takes the whole image away, as upstream runtimes do for the kubelet.
        let removed = tokio::task::spawn_blocking(move || match store.status(&reference) {
            Some(image) => store.remove(image.id.as_str()),
            None => Ok(()),
        });
        removed
            .await
            .map_err(EngineError::from)?
            .map_err(EngineError::from)?;
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _request: ImageFsInfoRequest) -> CriResult<ImageFsInfoResponse> {
        let store = self.core.config.images.clone();
        let found = tokio::task::spawn_blocking(move || store.fs_usage())
            .await
            .map_err(EngineError::from)?;
        let usage = FilesystemUsage {
            timestamp: now_nanos(),
            fs_id: Some(FilesystemIdentifier {
                mountpoint: found.mountpoint.display().to_string(),
            }),
            used_bytes: Some(UInt64Value {
                value: found.usage.bytes,
            }),
            inodes_used: Some(UInt64Value {
                value: found.usage.inodes,
            }),
        };
        Ok(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_a_number_or_a_name() {
        assert_eq!(
            user("1003:users"),
            (Some(Int64Value { value: 1003 }), String::new())
        );
        assert_eq!(user("www-data:100"), (None, "www-data".into()));
        assert_eq!(user(""), (None, String::new()));
    }

    #[test]
    fn credentials_come_in_four_forms() {
        let of = |given| auth(Some(given), "reg.io:5000/a/b:1").unwrap();
        let plain = AuthConfig {
            username: "u".into(),
            password: "p".into(),
            ..Default::default()
        };
        let encoded = AuthConfig {
            auth: "dTpw".into(),
            ..Default::default()
        };
        for given in [plain, encoded] {
            assert!(
                matches!(of(given), Auth::Basic { username, password } if username == "u" && password == "p")
            );
        }
        assert!(matches!(of(AuthConfig::default()), Auth::Anonymous));
        let identity = AuthConfig {
            identity_token: "refresh".into(),
            ..Default::default()
        };
        assert!(matches!(of(identity), Auth::Identity(token) if token == "refresh"));
        assert!(
            auth(
                Some(AuthConfig {
                    auth: "!".into(),
                    ..Default::default()
                }),
                "reg.io:5000/a/b:1"
            )
            .is_err()
        );
    }

    #[test]
    fn credentials_go_to_the_server_that_they_name() {
        for (server, image, meant) in [
            ("", "reg.io/a", true),
            ("reg.io:5000", "reg.io:5000/a", true),
            ("https://reg.io:5000/v2/", "reg.io:5000/a", true),
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://reg.io", "reg.io:5000/a", false),
            ("https://reg.io.evil.example", "reg.io/a", false),
            ("reg.io", "nginx", false),
        ] {
            assert_eq!(is_meant(server, image), meant, "{server:?} {image}");
        }
    }
}
