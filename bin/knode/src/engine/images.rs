//! `pull`, `import`, `export` and `pin`.

use std::path::Path;

use anyhow::{Context, ensure};
use knode_cri::{AuthConfig, ImageService, ImageSpec, PullImageRequest};

use super::cli::Place;
use super::find;
use crate::control::{self, Request};
use crate::layout::Layout;

/// Pulls an image and prints its id.
pub async fn pull(place: &Place, image: &str, creds: Option<&str>) -> anyhow::Result<()> {
    let engine = find::engine(place).await?;
    let auth = creds.map(credentials).transpose()?;
    let request = PullImageRequest {
        image: Some(ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        }),
        auth,
        sandbox_config: None,
    };
    let answer = engine.pull_image(request).await.context("pull the image")?;
    println!("{}", answer.image_ref);
    Ok(())
}

fn credentials(given: &str) -> anyhow::Result<AuthConfig> {
    let (username, password) = given.split_once(':').context("--creds must be USER:PASSWORD")?;
    ensure!(!username.is_empty(), "--creds must be USER:PASSWORD");
    Ok(AuthConfig {
        username: username.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    })
}

/// Imports an archive into the engine of a data directory.
pub async fn import(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    let path = std::path::absolute(file)?;
    ask(data_dir, &Request::ImportImage { path }).await
}

/// Writes images of the engine of a data directory to an archive.
pub async fn export(data_dir: &Path, file: &Path, images: &[String]) -> anyhow::Result<()> {
    let request = Request::ExportImages {
        path: std::path::absolute(file)?,
        images: images.to_vec(),
    };
    ask(data_dir, &request).await
}

/// Keeps images of the engine of a data directory from being collected, or does so no longer.
pub async fn pin(data_dir: &Path, images: &[String], pinned: bool) -> anyhow::Result<()> {
    let images = images.to_vec();
    ask(data_dir, &Request::PinImages { images, pinned }).await
}

async fn ask(data_dir: &Path, request: &Request) -> anyhow::Result<()> {
    let layout = Layout::new(data_dir);
    for line in control::ask(&layout.control_socket(), request).await? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons() {
        let auth = credentials("u:p:q").unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("u", "p:q"));
        assert!(credentials("u").is_err() && credentials(":p").is_err());
    }
}
