//! The layers of a pull: fetched, verified and unpacked as they stream in, several at once.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::error::PullError;
use super::manifest::{Descriptor, ImageManifest};
use super::progress::{LayerProgress, LayerState, Progress};
use super::source::failed_copy;
use crate::digest::Digest;
use crate::durable::TempPath;
use crate::registry::{Piece, Repository};
use crate::store::{Inner, LayerPlan, NewLayer, SourceLayer};
use crate::unpack::{Expected, UnpackError, unpack};

/// Layers fetched at once, as many as upstream containerd does.
const PARALLEL: usize = 3;
/// Pieces of a layer, of 128 KiB at most, that wait for the unpacker: enough for it never to wait, and little memory.
const PIECES_AHEAD: usize = 16;

/// Brings the layers that are not here into temporary trees.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    repository: &Arc<Repository>,
    manifest: &ImageManifest,
    plan: &LayerPlan,
    progress: &Progress,
) -> Result<Vec<SourceLayer>, PullError> {
    // Unpackers go on for a moment when a pull fails: they are waited for, so that what they made is gone.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let running = &alive;
    let jobs = manifest
        .layers
        .iter()
        .zip(&plan.diff_ids)
        .zip(&plan.present)
        .enumerate();
    let fetches = jobs.map(|(index, ((descriptor, diff_id), present))| async move {
        if let Some(number) = present {
            return Ok(SourceLayer::Present(*number));
        }
        let noted = progress.layer(index);
        noted.is(LayerState::Fetching);
        let layer = fetch_one(inner, repository, descriptor, diff_id, &noted, running).await?;
        noted.is(LayerState::Done);
        Ok(SourceLayer::New(layer))
    });
    let fetches: Vec<_> = fetches.collect();
    let layers = stream::iter(fetches).buffered(PARALLEL).try_collect().await;
    drop(alive);
    // Nothing is ever sent: this waits for the last of them to hang up.
    let _nothing: Option<()> = ended.recv().await;
    layers
}

async fn fetch_one(
    inner: &Arc<Inner>,
    repository: &Arc<Repository>,
    descriptor: &Descriptor,
    diff_id: &Digest,
    noted: &LayerProgress<'_>,
    running: &mpsc::Sender<()>,
) -> Result<NewLayer, PullError> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let expected = Expected {
        blob: Some(descriptor.digest.clone()),
        diff_id: diff_id.clone(),
    };
    let tree = inner.temporary();
    let running = running.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        let unpacked = run(tree, receiver, &expected);
        drop(running);
        unpacked
    });
    let transferred = transfer(repository, descriptor, &sender, noted).await;
    if transferred.is_err() {
        let broken = io::Error::other("the transfer broke off");
        // The unpacker may have hung up already.
        drop(sender.send(Err(broken)).await);
    }
    drop(sender);
    let unpacked = unpacking.await.map_err(|_| PullError::TaskLost("unpack"))?;
    match (transferred, unpacked) {
        (Err(error), _) => Err(error),
        (Ok(()), Ok(layer)) => Ok(layer),
        (Ok(()), Err(source)) => Err(PullError::Unpack {
            digest: descriptor.digest.clone(),
            source,
        }),
    }
}

/// Hands a blob's pieces to the unpacker until all are there or the unpacker hangs up; its own error says why.
async fn transfer(
    repository: &Arc<Repository>,
    descriptor: &Descriptor,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    noted: &LayerProgress<'_>,
) -> Result<(), PullError> {
    let mut blob = repository.blob(&descriptor.digest, descriptor.size);
    loop {
        let piece = tokio::select! {
            piece = blob.next() => piece,
            () = sender.closed() => return Ok(()),
        };
        match piece.map_err(|error| failed_copy(descriptor, &error))? {
            Piece::End => return Ok(()),
            Piece::Again(reason) => {
                tracing::debug!(digest = %descriptor.digest, reason, "the transfer of a layer is taken up again");
                noted.retried(reason);
            }
            Piece::Data(piece) => {
                noted.fetched(piece.len() as u64);
                if sender.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn run(
    tree: TempPath,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    expected: &Expected,
) -> Result<NewLayer, UnpackError> {
    let blob = ChannelReader {
        receiver,
        current: Bytes::new(),
    };
    let unpacked = unpack(blob, tree.path(), expected)?;
    Ok(NewLayer { tree, unpacked })
}

/// The blocking end of a stream of pieces.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
