//! Load on Services: wrk, and connections that are kept.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use knode_testkit::{Host, Process};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::BOUND;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two words on a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// wrk, which asks without a pause until it is told to end.
pub struct Wrk(Process);

impl Wrk {
    /// Starts it on a host with a few connections.
    #[track_caller]
    pub fn start(host: &Host, to: SocketAddr) -> Self {
        // A second of waiting frees the ports of closed connections for new ones.
        let switch = Path::new("/proc/sys/net/ipv4/tcp_tw_reuse");
        let set = host.enter(|| std::fs::write(switch, "1"));
        set.unwrap_or_else(|e| panic!("{}: {e}", switch.display()));
        let url = format!("http://{to}/");
        let arguments = [
            "--threads",
            "1",
            "--connections",
            "8",
            "--duration",
            "10m",
            "--timeout",
            "10s",
            &url,
        ];
        Self(host.spawn("wrk", "wrk", &arguments))
    }

    /// Ends it; how many requests it has made, and what it printed.
    ///
    /// # Panics
    /// When a request has failed.
    #[track_caller]
    pub fn requests(mut self) -> (u64, String) {
        self.0.signal(Signal::SIGINT);
        self.0.wait(BOUND);
        let printed = self.0.output();
        for failure in ["Socket errors", "Non-2xx"] {
            assert!(!printed.contains(failure), "{printed}");
        }
        let line = printed.lines().find(|line| line.contains(" requests in "));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        (number.unwrap_or_else(|| panic!("no count in {printed}")), printed)
    }
}

/// Connections that are kept, and say something again and again.
pub struct Kept {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Result<u64, String>>>,
}

impl Kept {
    /// Opens so many from a host.
    pub fn open(host: Arc<Host>, to: SocketAddr, number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let all = move || {
            let talks = (0..number).map(|_| talk(to, &until));
            host.block_on(async || futures::future::join_all(talks).await)
        };
        Self {
            stop,
            thread: std::thread::spawn(all),
        }
    }

    /// Ends them; how many echoes came back on the one that had the fewest.
    ///
    /// # Panics
    /// When one has broken.
    #[track_caller]
    pub fn echoes(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let all = self
            .thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let counts = all
            .into_iter()
            .map(|one| one.unwrap_or_else(|broken| panic!("{broken}")));
        counts.min().unwrap_or_default()
    }
}

async fn talk(to: SocketAddr, stop: &AtomicBool) -> Result<u64, String> {
    let mut stream = TcpStream::connect(to).await.map_err(|e| format!("{to}: {e}"))?;
    let mut echoes = 0;
    let mut tick = tokio::time::interval(PAUSE);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let echo = tokio::time::timeout(PATIENCE, echo(&mut stream, echoes)).await;
        let echo = echo.map_err(|_| format!("{to}: no echo within {PATIENCE:?} after {echoes}"))?;
        echo.map_err(|e| format!("{to}: {e} after {echoes} echoes"))?;
        echoes += 1;
    }
    Ok(echoes)
}

async fn echo(stream: &mut TcpStream, number: u64) -> std::io::Result<()> {
    let mut back = [0; 8];
    stream.write_all(&number.to_be_bytes()).await?;
    stream.read_exact(&mut back).await?;
    if back == number.to_be_bytes() {
        Ok(())
    } else {
        Err(std::io::Error::other("another echo came back"))
    }
}
