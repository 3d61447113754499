//! Copying a log to a client.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::line::{LineSplitter, LogWriter};
use super::options::LogOptions;
use super::source::LogSource;

const PIECE: usize = 32 * 1024;

/// Copies what the options ask for from the log at `path`. When following, goes on across rotation until `ended`
/// resolves (the container has ended) and everything that was written has been read.
///
/// # Errors
/// The file's. A client that goes away just ends the copying.
pub async fn copy_log(
    path: &Path,
    options: &LogOptions,
    ended: impl Future<Output = ()>,
    client: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut source = LogSource::open(path, options.tail, options.follow).await?;
    let mut copy = Copy {
        buffer: vec![0; PIECE],
        splitter: LineSplitter::default(),
        writer: LogWriter::new(options),
        client,
    };
    let mut ended = pin!(ended);
    let mut over = !options.follow;
    loop {
        if !copy.copy_available(&mut source).await? {
            return Ok(());
        }
        if options.follow
            && let Some(successor) = source.successor().await?
        {
            if !copy.copy_available(&mut source).await? {
                return Ok(());
            }
            source.go_over(successor).await?;
            continue;
        }
        if over {
            copy.finish().await;
            return Ok(());
        }
        tokio::select! {
            () = &mut ended => over = true,
            changed = source.changed() => changed?,
            () = client.closed() => return Ok(()),
        }
    }
}

struct Copy<'a> {
    buffer: Vec<u8>,
    splitter: LineSplitter,
    writer: LogWriter,
    client: &'a mpsc::Sender<io::Result<Bytes>>,
}

impl Copy<'_> {
    /// Passes on what there is now; whether more is wanted.
    async fn copy_available(&mut self, source: &mut LogSource) -> io::Result<bool> {
        loop {
            let read = source.read(&mut self.buffer).await?;
            if read == 0 {
                return Ok(true);
            }
            let mut out = Vec::with_capacity(read);
            let writer = &mut self.writer;
            self.splitter
                .push(&self.buffer[..read], |line| writer.write(line, &mut out));
            if !self.send(out).await || self.writer.is_full() {
                return Ok(false);
            }
        }
    }

    /// A last line without line feed, where the writer died in between.
    async fn finish(&mut self) {
        let mut out = Vec::new();
        let rest = self.splitter.take_rest();
        self.writer.write(&rest, &mut out);
        self.send(out).await;
    }

    async fn send(&self, out: Vec<u8>) -> bool {
        out.is_empty() || self.client.send(Ok(Bytes::from(out))).await.is_ok()
    }
}
