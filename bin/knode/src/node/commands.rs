//! What the control socket can ask of the engine's images.

use std::path::Path;

use async_trait::async_trait;
use knode_images::{ImageStore, Pulls};

use crate::control::{Answer, Commands};

/// Commands about the images of this node.
pub struct Images(pub ImageStore);

#[async_trait]
impl Commands for Images {
    async fn import(&self, archive: &Path) -> Answer {
        let imported = self.0.import_archive(archive).await.map_err(|e| e.chain())?;
        Ok(imported
            .iter()
            .flat_map(names)
            .map(|n| format!("imported {n}"))
            .collect())
    }

    async fn export(&self, archive: &Path, images: &[String]) -> Answer {
        let exported = self.0.export_archive(images, archive).await;
        exported.map_err(|e| e.chain())?;
        Ok(images.iter().map(|image| format!("exported {image}")).collect())
    }

    async fn pin(&self, images: &[String], pinned: bool) -> Answer {
        let done = if pinned { "pinned" } else { "unpinned" };
        let one = |image: &String| {
            self.0.set_pinned(image, pinned).map_err(|error| error.chain())?;
            Ok(format!("{done} {image}"))
        };
        images.iter().map(one).collect()
    }

    fn pulls(&self) -> Option<Pulls> {
        Some(self.0.pulls())
    }

    async fn images(&self) -> Answer {
        Ok(self.0.list().iter().flat_map(names).collect())
    }
}

/// Its tags and digests, or its id where it has none.
fn names(image: &knode_images::Image) -> Vec<String> {
    let named: Vec<_> = image
        .repo_tags
        .iter()
        .chain(&image.repo_digests)
        .cloned()
        .collect();
    if named.is_empty() {
        vec![image.id.to_string()]
    } else {
        named
    }
}
