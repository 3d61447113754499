//! The daemon's own socket: what `knode engine import` and the like ask of the process that owns the
//! data directory. One JSON request a line, one JSON answer a line; mode 0600, so root alone.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use knode_images::Pulls;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::engine;
use crate::upgrade::life;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "ask")]
pub enum Request {
    /// What the process says of itself ([`Life`](crate::upgrade::life::Life) as JSON in one line).
    Life,
    /// Import the images of the archive at an absolute path.
    ImportImage { path: PathBuf },
    /// The names of all images.
    ListImages,
    /// How far pulls are: an answer whenever that has changed, until the asker leaves.
    WatchPulls,
    /// Write these images to an archive at an absolute path.
    ExportImages { path: PathBuf, images: Vec<String> },
    /// Keep these images whatever else is removed, or do so no longer.
    PinImages { images: Vec<String>, pinned: bool },
}

/// The answer: lines for the person, or what went wrong.
pub type Answer = Result<Vec<String>, String>;

/// What the daemon does when asked; the engine's side of it is wired where the engine is opened.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    async fn import(&self, archive: &Path) -> Answer;
    async fn images(&self) -> Answer;
    /// The pulls under way; none of an engine that is not ours.
    fn pulls(&self) -> Option<Pulls> {
        None
    }
    /// Who has no images of its own has none to write.
    async fn export(&self, _archive: &Path, _images: &[String]) -> Answer {
        Err("exporting images is not supported by this engine".into())
    }
    /// Nor any to keep.
    async fn pin(&self, _images: &[String], _pinned: bool) -> Answer {
        Err("pinning images is not supported by this engine".into())
    }
}

/// A daemon without a container engine.
struct NoEngine;

#[async_trait]
impl Commands for NoEngine {
    async fn import(&self, _: &Path) -> Answer {
        Err("this knode runs no containers".into())
    }
    async fn images(&self) -> Answer {
        Err("this knode runs no containers".into())
    }
}

/// Why the socket could not be served or asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("listen on {path}")]
    Listen { path: PathBuf, source: std::io::Error },
    #[error("no knode runs from this data directory (nothing answers on {path}); start one with `knode up`")]
    NotRunning { path: PathBuf, source: std::io::Error },
    #[error("speak with the knode behind {path}")]
    Exchange { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Refused(String),
}

/// Serves the socket of a control plane alone, which has no images.
pub fn serve_alone(path: &Path) -> Result<tokio::task::JoinHandle<()>, ControlError> {
    serve(path, Arc::new(NoEngine))
}

/// Serves the socket until the task is dropped.
pub fn serve(path: &Path, commands: Arc<dyn Commands>) -> Result<tokio::task::JoinHandle<()>, ControlError> {
    let listen = || {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = listen().map_err(|source| ControlError::Listen {
        path: path.to_owned(),
        source,
    })?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(one(stream, commands.clone()))),
                Err(error) => tracing::warn!(%error, "control socket"),
            }
        }
    }))
}

async fn one(stream: UnixStream, commands: Arc<dyn Commands>) {
    if let Err(error) = converse(stream, commands).await {
        tracing::debug!(%error, "a client of the control socket left");
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    commands: Arc<dyn Commands>,
) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Life) => serde_json::to_string(&life::this())
            .map(|text| vec![text])
            .map_err(|e| e.to_string()),
        Ok(Request::ImportImage { path }) => commands.import(&path).await,
        Ok(Request::ListImages) => commands.images().await,
        Ok(Request::WatchPulls) => match commands.pulls() {
            Some(pulls) => return engine::tell_pulls(stream, &pulls).await,
            None => Err("watching pulls is not supported by this engine".into()),
        },
        Ok(Request::ExportImages { path, images }) => commands.export(&path, &images).await,
        Ok(Request::PinImages { images, pinned }) => commands.pin(&images, pinned).await,
        Err(e) => Err(format!("not a request of this knode's version: {e}")),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await
}

/// Asks the daemon behind `path`.
pub async fn ask(path: &Path, request: &Request) -> Result<Vec<String>, ControlError> {
    let mut first = None;
    let answers = follow(path, request, |lines| first = Some(lines));
    answers.await?;
    first.ok_or_else(|| ControlError::Exchange {
        path: path.to_owned(),
        source: std::io::ErrorKind::UnexpectedEof.into(),
    })
}

/// Asks for something that is answered more than once; returns when the daemon has no more to say.
pub async fn follow(
    path: &Path,
    request: &Request,
    mut each: impl FnMut(Vec<String>),
) -> Result<(), ControlError> {
    let not_running = |source| ControlError::NotRunning {
        path: path.to_owned(),
        source,
    };
    let exchange = |source| ControlError::Exchange {
        path: path.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(path).await.map_err(not_running)?;
    let mut bytes = serde_json::to_vec(request).map_err(|e| exchange(e.into()))?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await.map_err(exchange)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(exchange)? {
        let answer: Answer = serde_json::from_str(&line).map_err(|e| exchange(e.into()))?;
        each(answer.map_err(ControlError::Refused)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    #[async_trait]
    impl Commands for Fake {
        async fn import(&self, archive: &Path) -> Answer {
            Err(format!("{}: not an archive", archive.display()))
        }
        async fn images(&self) -> Answer {
            Ok(vec!["a:1".into()])
        }
    }

    #[tokio::test]
    async fn asks_and_answers_over_a_private_socket() {
        let path = std::env::temp_dir().join(format!("knode-control-{}.sock", std::process::id()));
        let absent = ask(&path, &Request::ListImages).await.unwrap_err().to_string();
        assert!(absent.contains("knode up"), "{absent}");
        let server = serve(&path, Arc::new(Fake)).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(ask(&path, &Request::ListImages).await.unwrap(), ["a:1"]);
        let refused = ask(
            &path,
            &Request::ImportImage {
                path: "/x.tar".into(),
            },
        )
        .await
        .unwrap_err()
        .to_string();
        assert_eq!(refused, "/x.tar: not an archive");
        server.abort();
        std::fs::remove_file(&path).unwrap();
    }
}
