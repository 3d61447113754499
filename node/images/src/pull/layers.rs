//! The layers of a pull: fetched, verified and unpacked as they stream in, several at once.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::error::PullError;
use super::manifest::{Descriptor, ImageManifest};
use super::registry::{Registry, broken_copy};
use super::source_of;
use crate::digest::Digest;
use crate::durable::TempPath;
use crate::store::{Inner, LayerPlan, NewLayer, SourceLayer};
use crate::unpack::{Expected, UnpackError, unpack};

/// Layers fetched at once.
const PARALLEL: usize = 3;
/// Pieces of a layer, of some 16 kB, that wait for the unpacker.
const PIECES_AHEAD: usize = 64;

/// Brings the layers that are not here into temporary trees.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    registry: &Registry,
    manifest: &ImageManifest,
    plan: &LayerPlan,
) -> Result<Vec<SourceLayer>, PullError> {
    let jobs = manifest.layers.iter().zip(&plan.diff_ids).zip(&plan.present);
    let fetches = jobs.map(|((descriptor, diff_id), present)| async move {
        match source_of(*present) {
            Some(source) => Ok(source),
            None => fetch_one(inner, registry, descriptor, diff_id)
                .await
                .map(SourceLayer::New),
        }
    });
    let fetches: Vec<_> = fetches.collect();
    stream::iter(fetches).buffered(PARALLEL).try_collect().await
}

async fn fetch_one(
    inner: &Arc<Inner>,
    registry: &Registry,
    descriptor: &Descriptor,
    diff_id: &Digest,
) -> Result<NewLayer, PullError> {
    let mut stream = registry.blob(descriptor).await?;
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let expected = Expected {
        blob: Some(descriptor.digest.clone()),
        diff_id: diff_id.clone(),
    };
    let tree = inner.temporary();
    let unpacking = tokio::task::spawn_blocking(move || run(tree, receiver, &expected));
    let mut broken = None;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            broken = Some(broken_copy(descriptor, &error));
            io::Error::other("the transfer broke off")
        });
        let last = piece.is_err();
        // The unpacker hangs up when it fails; its own error says why.
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(sender);
    let unpacked = unpacking.await.map_err(|_| PullError::TaskLost("unpack"))?;
    match (broken, unpacked) {
        (_, Ok(layer)) => Ok(layer),
        (Some(error), Err(_)) => Err(error),
        (None, Err(source)) => Err(PullError::Unpack {
            digest: descriptor.digest.clone(),
            source,
        }),
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
