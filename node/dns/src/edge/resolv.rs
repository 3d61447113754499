//! Follows a resolv.conf.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knode_linux::filewatch::FileWatch;

use crate::forward::{Forwarder, nameservers};

/// Its servers; an absent file names none.
pub(super) fn read(path: &Path) -> Vec<SocketAddr> {
    match std::fs::read_to_string(path) {
        Ok(text) => nameservers(&text),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no name servers to forward to");
            Vec::new()
        }
    }
}

/// Asks the servers that the file names from now on, for ever.
pub(super) async fn follow(path: PathBuf, forwarder: Arc<Forwarder>) {
    let mut known = read(&path);
    // The file may be a link that programs exchange, or its target be written.
    let target = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let watch = FileWatch::new().and_then(|watch| {
        for directory in [path.parent(), target.parent()].into_iter().flatten() {
            watch.add_directory(directory)?;
        }
        Ok(watch)
    });
    let watch = match watch {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "changes of this file are not noticed");
            return std::future::pending().await;
        }
    };
    while watch.changed().await.is_ok() {
        let now = read(&path);
        if now != known {
            tracing::info!(servers = ?now, "other name servers to forward to");
            forwarder.set_servers(&now);
            forwarder.look_for_loops();
            known = now;
        }
    }
    std::future::pending().await
}
