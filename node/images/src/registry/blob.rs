//! A blob as it arrives, taken up again where a transfer broke off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::RequestError;
use super::http::Reader;
use super::repository::{Repository, random};
use super::retry::Retry;
use crate::digest::Digest;

/// What a blob brings next.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// The transfer broke off for this reason and is taken up again after a pause.
    Again(String),
    /// It is whole, by its size. Its digest is for the reader to verify.
    End,
}

/// A blob being read.
pub(crate) struct Blob {
    repository: Arc<Repository>,
    digest: Digest,
    size: u64,
    /// Bytes that have been handed out.
    offset: u64,
    /// Bytes of the body at hand that come before `offset`.
    skip: u64,
    body: Option<Reader>,
    /// The endpoint that served last.
    endpoint: usize,
    retry: Retry,
    pause: Option<Duration>,
}

impl Repository {
    /// A blob of `size` bytes. Nothing is sent before the first [`Blob::next`].
    pub(crate) fn blob(self: &Arc<Self>, digest: &Digest, size: u64) -> Blob {
        Blob {
            repository: self.clone(),
            digest: digest.clone(),
            size,
            offset: 0,
            skip: 0,
            body: None,
            endpoint: 0,
            retry: Retry::new(self.policy()),
            pause: None,
        }
    }
}

impl Blob {
    /// The next piece.
    ///
    /// # Errors
    /// What the registry refuses for good, and what has failed too often. More bytes than promised are an error.
    pub(crate) async fn next(&mut self) -> Result<Piece, RequestError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        match self.step().await {
            Err(error) if error.is_passing() => {
                self.body = None;
                match self.retry.failed(error.retry_after(), random()) {
                    None => Err(error),
                    Some(pause) => {
                        self.pause = Some(pause);
                        Ok(Piece::Again(error.to_string()))
                    }
                }
            }
            other => other,
        }
    }

    /// Everything, for blobs that are small.
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>, RequestError> {
        let mut bytes = Vec::new();
        loop {
            match self.next().await? {
                Piece::Data(piece) => bytes.extend_from_slice(&piece),
                Piece::Again(reason) => {
                    tracing::debug!(digest = %self.digest, reason, "a transfer is taken up again");
                }
                Piece::End => return Ok(bytes),
            }
        }
    }

    async fn step(&mut self) -> Result<Piece, RequestError> {
        loop {
            if self.body.is_none() {
                if self.offset == self.size && self.size > 0 {
                    return Ok(Piece::End);
                }
                self.open().await?;
            }
            let Some(body) = &mut self.body else { continue };
            match body.next().await? {
                None if self.offset == self.size => return Ok(Piece::End),
                None => {
                    let text = format!("the transfer ended after {} of {} bytes", self.offset, self.size);
                    return Err(RequestError::Broken(text));
                }
                Some(piece) => {
                    if let Some(piece) = self.take(piece)? {
                        return Ok(Piece::Data(piece));
                    }
                }
            }
        }
    }

    /// What is new in a piece.
    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, RequestError> {
        let known = self.skip.min(piece.len() as u64);
        self.skip -= known;
        let new = piece.split_off(known as usize);
        if new.is_empty() {
            return Ok(None);
        }
        self.offset += new.len() as u64;
        if self.offset > self.size {
            return Err(RequestError::TooMuch(self.size));
        }
        self.retry.progressed(new.len() as u64);
        Ok(Some(new))
    }

    /// Opens it at the endpoint that served last, or else at the next.
    async fn open(&mut self) -> Result<(), RequestError> {
        let count = self.repository.endpoints();
        let mut last = None;
        for _ in 0..count.max(1) {
            let opening = self
                .repository
                .open_blob(self.endpoint, &self.digest, self.size, self.offset);
            match opening.await {
                Ok((body, skip)) => {
                    (self.body, self.skip) = (Some(body), skip);
                    return Ok(());
                }
                Err(error) => {
                    // The registry itself, the last of all, knows best why not.
                    if last.is_none() || self.endpoint + 1 == count {
                        last = Some(error);
                    }
                    self.endpoint = (self.endpoint + 1) % count.max(1);
                }
            }
        }
        Err(last.unwrap_or_else(|| RequestError::Broken("there is nobody to ask".to_owned())))
    }
}
