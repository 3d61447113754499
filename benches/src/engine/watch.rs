//! Waiting for the first output of a container in its log.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use knode_linux::filewatch::FileWatch;

/// How long a container may take to say something.
const BOUND: Duration = Duration::from_secs(60);

/// Looks at a directory from before the container is started.
pub struct Watch(FileWatch);

impl Watch {
    /// Begins.
    pub fn begin(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).context("make a directory for logs")?;
        let watch = FileWatch::new().context("watch files")?;
        watch.add_directory(directory).context("watch the log")?;
        Ok(Self(watch))
    }

    /// Waits until the log has `text` in it.
    pub async fn until(&self, log: &Path, text: &str) -> anyhow::Result<()> {
        let said = async {
            loop {
                let now = std::fs::read_to_string(log).unwrap_or_default();
                if now.contains(text) {
                    return anyhow::Ok(());
                }
                self.0.changed().await.context("watch the log")?;
            }
        };
        tokio::time::timeout(BOUND, said)
            .await
            .with_context(|| format!("{}: {text:?} was not said", log.display()))?
    }
}
