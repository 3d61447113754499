//! The daemon's end of the connection to a shim.

mod spawn;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use knode_linux::fds;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::error::{EngineError, Result};
use crate::shim::protocol::{self, Answer, Command, Exit, Message, Request};

pub(crate) use spawn::spawn;

/// What a shim tells without being asked.
#[derive(Debug)]
pub(crate) enum ShimEvent {
    /// A container ended.
    Exited { container: String, exit: Exit },
    /// The connection is gone, and with it the shim.
    Lost { sandbox: String },
}

/// A connection to one shim. Dropping it leaves the shim as it is.
pub(crate) struct ShimLink {
    sandbox: String,
    stream: Arc<UnixStream>,
    shared: Arc<Mutex<Shared>>,
    sending: tokio::sync::Mutex<()>,
    next: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    closed: bool,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    execs: HashMap<String, oneshot::Sender<i32>>,
}

impl ShimLink {
    /// Connects to the shim of `sandbox` that listens on `socket`; `events` hears what it tells.
    ///
    /// # Errors
    /// Those of connecting: nobody listens there any more.
    pub(crate) async fn connect(
        sandbox: &str,
        socket: &Path,
        events: mpsc::UnboundedSender<ShimEvent>,
    ) -> io::Result<Self> {
        let stream = Arc::new(UnixStream::connect(socket).await?);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let reader = tokio::spawn(read(sandbox.to_string(), stream.clone(), shared.clone(), events));
        Ok(Self {
            sandbox: sandbox.to_string(),
            stream,
            shared,
            sending: tokio::sync::Mutex::new(()),
            next: AtomicU64::new(1),
            reader,
        })
    }

    /// Asks the shim, and waits for the answer.
    ///
    /// # Errors
    /// [`EngineError::ShimGone`].
    pub(crate) async fn call(&self, command: Command, fds: &[OwnedFd]) -> Result<Answer> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut shared = lock(&self.shared);
            if shared.closed {
                return Err(self.gone());
            }
            shared.answers.insert(seq, sender);
        }
        if self.send(&Request { seq, command }, fds).await.is_err() {
            lock(&self.shared).answers.remove(&seq);
            return Err(self.gone());
        }
        receiver.await.map_err(|_| self.gone())
    }

    /// Whether the shim is gone. That is told to `events` after it is so.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }

    /// As [`ShimLink::call`], for requests whose only good answer is "done".
    ///
    /// # Errors
    /// [`EngineError::ShimGone`], [`EngineError::Shim`]. `Ok(false)`: the shim knows no such thing.
    pub(crate) async fn ask(&self, command: Command, fds: &[OwnedFd]) -> Result<bool> {
        match self.call(command, fds).await? {
            Answer::Failed { message } => Err(EngineError::Shim { message }),
            Answer::Unknown => Ok(false),
            _ => Ok(true),
        }
    }

    /// Will hear the exit code of the command `id`. Ask before it is started.
    pub(crate) fn exec_exit(&self, id: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared).execs.insert(id.to_string(), sender);
        receiver
    }

    /// Nobody waits for the command any more.
    pub(crate) fn forget_exec(&self, id: &str) {
        lock(&self.shared).execs.remove(id);
    }

    fn gone(&self) -> EngineError {
        EngineError::ShimGone {
            sandbox: self.sandbox.clone(),
        }
    }

    async fn send(&self, request: &Request, fds: &[OwnedFd]) -> io::Result<()> {
        let mut bytes = Vec::new();
        protocol::encode(request, &mut bytes)?;
        let mut attached: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut rest = bytes.as_slice();
        let _one_at_a_time = self.sending.lock().await;
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self
                .stream
                .try_io(Interest::WRITABLE, || fds::send(&*self.stream, rest, &attached))
            {
                Ok(count) => {
                    rest = &rest[count..];
                    attached.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for ShimLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every change is one insertion or removal, so a panic elsewhere leaves it usable.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(
    sandbox: String,
    stream: Arc<UnixStream>,
    shared: Arc<Mutex<Shared>>,
    events: mpsc::UnboundedSender<ShimEvent>,
) {
    let mut buffer = Vec::new();
    if let Err(error) = read_messages(&stream, &mut buffer, &shared, &events).await {
        tracing::debug!(%sandbox, %error, "connection to the shim");
    }
    {
        let mut shared = lock(&shared);
        shared.closed = true;
        // Dropping the senders tells those who wait.
        shared.answers.clear();
        shared.execs.clear();
    }
    // Nobody listens when the engine itself is going.
    let _ = events.send(ShimEvent::Lost { sandbox });
}

async fn read_messages(
    stream: &UnixStream,
    buffer: &mut Vec<u8>,
    shared: &Mutex<Shared>,
    events: &mpsc::UnboundedSender<ShimEvent>,
) -> io::Result<()> {
    loop {
        while let Some(message) = protocol::decode::<Message>(buffer)? {
            deliver(message, shared, events);
        }
        stream.readable().await?;
        match stream.try_read_buf(buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn deliver(message: Message, shared: &Mutex<Shared>, events: &mpsc::UnboundedSender<ShimEvent>) {
    match message {
        Message::Answer { seq, answer } => {
            if let Some(sender) = lock(shared).answers.remove(&seq) {
                // Who asked may have given up.
                let _ = sender.send(answer);
            }
        }
        Message::ExecExited { exec, code } => {
            if let Some(sender) = lock(shared).execs.remove(&exec) {
                // Who waits for the end may have gone.
                let _ = sender.send(code);
            }
        }
        Message::Exited { container, exit } => {
            // Nobody listens once the engine ends.
            let _ = events.send(ShimEvent::Exited { container, exit });
        }
    }
}
