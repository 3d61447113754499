//! A registry of the test's own: a real HTTP server that answers as it is told, also as none should.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use knode_images::{ImageStore, Registries, RetryPolicy, StoreConfig, Timeouts};
use knode_testkit::image::{Blob, Image};
use knode_testkit::{Host, Scratch, require_root};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that a range asks for.
    pub fn offset(&self) -> usize {
        let range = self.header("range").unwrap_or("bytes=0-");
        range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap()
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole answer.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// The head of an answer of so many bytes, these bytes of it, then the end of the connection.
    Cut(usize, Vec<u8>),
    /// The same, but then nothing more, and the connection stays.
    Stall(usize, Vec<u8>),
    /// Bytes that are no HTTP.
    Raw(Vec<u8>),
    /// A body without an end, in chunks of 64 KiB.
    Endless,
    /// A byte every so often, as the length says it should be.
    Drip(usize, Duration),
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Whole(200, Vec::new(), body.into())
    }

    pub fn status(status: u16) -> Self {
        Self::Whole(status, Vec::new(), Vec::new())
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Whole(_, headers, _) = &mut self {
            headers.push((name.to_owned(), value.into()));
        }
        self
    }

    pub fn to(location: impl Into<String>) -> Self {
        Self::status(307).with("location", location)
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server. It ends, with its connections, when dropped.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts one at `address` (port 0 is any) in `host`.
    pub fn start_at(
        host: &Host,
        address: &str,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = host.enter(|| TcpListener::bind((address, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (noted, ended) = (asked.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (handler, noted, ended) = (handler.clone(), noted.clone(), ended.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream, &*handler, &noted, &ended));
            }
        });
        Self {
            address,
            asked,
            over,
            thread: Some(thread),
        }
    }

    pub fn start(host: &Host, handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(host, "127.0.0.1", handler)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A reference to something here.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Ends it: connects once so that the listener looks up.
    pub fn end(&mut self, host: &Host) {
        self.over.store(true, Ordering::Relaxed);
        // Whether it connects or not, the thread goes on.
        drop(host.enter(|| TcpStream::connect(self.address)));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, noted: &Mutex<Vec<Asked>>, over: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(asked) = read(&mut reader) {
        noted.lock().unwrap().push(asked.clone());
        let head = asked.method == "HEAD";
        if !send(&mut stream, handler(&asked), head, over).unwrap_or(false) {
            break;
        }
    }
    // The other side may be gone already.
    drop(stream.shutdown(std::net::Shutdown::Both));
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Sends a reply and tells whether the connection may be used again.
fn send(stream: &mut TcpStream, reply: Reply, head: bool, over: &AtomicBool) -> std::io::Result<bool> {
    let begin = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    match reply {
        Reply::Whole(status, headers, body) => {
            let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{text}\r\n").as_bytes())?;
            if !head {
                stream.write_all(&body)?;
            }
            return Ok(true);
        }
        Reply::Raw(bytes) => stream.write_all(&bytes)?,
        Reply::Cut(length, part) => {
            stream.write_all(begin(length).as_bytes())?;
            stream.write_all(&part)?;
        }
        Reply::Stall(length, part) => {
            stream.write_all(begin(length).as_bytes())?;
            stream.write_all(&part)?;
            wait(stream, over, Duration::from_millis(20), || Ok(()))?;
        }
        Reply::Drip(length, pause) => {
            stream.write_all(begin(length).as_bytes())?;
            let mut other = stream.try_clone()?;
            wait(stream, over, pause, || other.write_all(b"x"))?;
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 65_536], b"\r\n"].concat();
            while !over.load(Ordering::Relaxed) {
                stream.write_all(&chunk)?;
            }
        }
    }
    Ok(false)
}

/// Does something every so often until the other side hangs up or the server ends.
fn wait(
    stream: &mut TcpStream,
    over: &AtomicBool,
    pause: Duration,
    mut each: impl FnMut() -> std::io::Result<()>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(pause))?;
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut [0; 16]) {
            Ok(0) => break,
            _ => each()?,
        }
    }
    Ok(())
}

/// Answers for an image as a registry should.
pub fn honest(image: &Image, asked: &Asked) -> Reply {
    let blobs: Vec<Blob> = image.blobs().cloned().collect();
    let manifests = [image.manifest.clone()];
    answer(&manifests, &blobs, asked)
}

/// Answers with content by digest; any other name is the first manifest's.
pub fn answer(manifests: &[Blob], blobs: &[Blob], asked: &Asked) -> Reply {
    let path = asked.path.split('?').next().unwrap();
    let name = path.rsplit('/').next().unwrap();
    if path.contains("/manifests/") {
        let found = manifests
            .iter()
            .find(|manifest| manifest.digest == name)
            .or(manifests.first().filter(|_| !name.contains(':')));
        return match found {
            None => Reply::status(404),
            Some(manifest) => Reply::ok(manifest.bytes.clone())
                .with("content-type", manifest.media_type.clone())
                .with("docker-content-digest", manifest.digest.clone()),
        };
    }
    match blobs.iter().find(|blob| blob.digest == name) {
        None => Reply::status(404),
        Some(blob) => {
            let offset = asked.offset();
            match asked.header("range") {
                None => Reply::ok(blob.bytes.clone()),
                Some(_) => Reply::Whole(206, Vec::new(), blob.bytes[offset..].to_vec()).with(
                    "content-range",
                    format!("bytes {offset}-{}/{}", blob.bytes.len() - 1, blob.bytes.len()),
                ),
            }
        }
    }
}

/// A store in a temporary directory that tries again soon and not often.
pub struct Fixture {
    pub scratch: Scratch,
    pub store: ImageStore,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Registries)) -> Self {
        require_root();
        let scratch = Scratch::new("registry");
        let mut registries = impatient();
        change(&mut registries);
        let store = open(&scratch, registries);
        Self { scratch, store }
    }

    /// Nothing of any image is left.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert_eq!(self.store.list(), []);
        for dir in ["tmp", "l", "layers", "images"] {
            let names: Vec<_> = std::fs::read_dir(self.store.root().join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert!(names.is_empty(), "{dir}: {names:?}");
        }
        assert_eq!(self.store.pulls().running(), []);
    }
}

pub fn impatient() -> Registries {
    Registries {
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            // Long: a busy machine must not look like a registry that stalls.
            stall: Duration::from_secs(10),
        },
        retry: RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(20),
        },
        ..Registries::default()
    }
}

pub fn open(scratch: &Scratch, registries: Registries) -> ImageStore {
    let config = StoreConfig {
        root: scratch.join("store"),
        registries,
    };
    ImageStore::open(config).unwrap_or_else(|error| panic!("{}", error.chain()))
}
