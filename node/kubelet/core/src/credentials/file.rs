//! Docker's configuration file of the node: credentials for every pod.

use std::path::PathBuf;

use knode_cri::AuthConfig;

use crate::image::docker_credentials;

/// The node's `config.json`, read anew for each pull. Upstream's kubelet looks in its root directory first, then in
/// root's home.
#[derive(Debug, Clone, Default)]
pub struct NodeFile {
    /// Where it may be; the first that is there counts.
    pub paths: Vec<PathBuf>,
}

impl NodeFile {
    /// The credentials in it that fit `image`, the closest first. A file that cannot be read is logged and has none.
    pub async fn credentials(&self, image: &str) -> Vec<AuthConfig> {
        for path in &self.paths {
            match tokio::fs::read(path).await {
                Ok(bytes) => return docker_credentials(image, &bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the node's registry credentials cannot be read");
                    return Vec::new();
                }
            }
        }
        Vec::new()
    }
}
