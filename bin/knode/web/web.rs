//! A web server small enough to travel in a binary: the page that `knode verify` looks for.
//!
//! `web` serves on port 80 or `$PORT`; `web get URL` prints a page and exits with 0, or tells on standard error what
//! went wrong and exits with 1. Written against the standard library alone, because it is compiled by a build script.
//! It keeps nothing that would need an orderly end: its image asks to be stopped by SIGKILL.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// A client that says nothing for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest request head.
const HEAD_LIMIT: usize = 16 << 10;
/// Requests served at once; more wait in the kernel's queue.
const WORKERS: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["serve"] => serve(),
        ["get", url] => get(url).and_then(|body| io::stdout().write_all(&body)),
        _ => Err(io::Error::other("usage: web [serve] | web get URL")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("web: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let port = match env::var("PORT") {
        Ok(text) => text
            .parse()
            .map_err(|_| io::Error::other(format!("PORT is {text:?}, which is no port")))?,
        Err(_) => 80,
    };
    let listener = listen(port)?;
    println!("listening on port {}", listener.local_addr()?.port());
    thread::scope(|scope| {
        for _ in 1..WORKERS {
            let listener = &listener;
            // With fewer threads it still serves.
            let _fewer = thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, move || accept(listener));
        }
        accept(&listener);
    });
    Ok(())
}

/// Listens on every address of both families, or of IPv4 where the kernel has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    TcpListener::bind(any).or_else(|_| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}

fn accept(listener: &TcpListener) {
    loop {
        match listener.accept() {
            // A client that goes away in the middle is its own affair.
            Ok((stream, peer)) => drop(answer(stream, peer)),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

fn answer(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = request(&mut stream)? else {
        return Ok(());
    };
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/healthz") => ("200 OK", "text/plain", "ok\n".to_owned()),
        ("GET" | "HEAD", "/") => ("200 OK", "text/html", page(peer)),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "not found\n".to_owned()),
        _ => (
            "405 Method Not Allowed",
            "text/plain",
            "only GET and HEAD\n".to_owned(),
        ),
    };
    println!("{} {method} {path} {status}", peer.ip().to_canonical());
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status}\r\nServer: knode-web\r\nContent-Type: {kind}; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    if method != "HEAD" {
        text.push_str(&body);
    }
    stream.write_all(text.as_bytes())
}

/// The first line of a request whose head has come in whole; `None` when the client said nothing.
fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || head.len() + count > HEAD_LIMIT {
            return Ok(None);
        }
        head.extend_from_slice(&piece[..count]);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

fn page(peer: SocketAddr) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (name, client) = (name.trim(), peer.ip().to_canonical());
    format!(
        "<!DOCTYPE html>\n<html>\n<head><title>Welcome to knode!</title></head>\n<body>\n<h1>Welcome to knode!</h1>\n\
         <p>hostname: {name}</p>\n<p>client: {client}</p>\n</body>\n</html>\n"
    )
}

/// Fetches `http://address[:port][/path]`.
fn get(url: &str) -> io::Result<Vec<u8>> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| io::Error::other("only http:// is spoken here"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut stream = connect(&target)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    let line = String::from_utf8_lossy(&answer[..end])
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    if line.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("{url} answered {line:?}")));
    }
    Ok(answer.split_off(end + 4))
}

/// Names are not looked up: a program that is linked statically cannot load the C library's resolvers.
fn connect(target: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = target
        .parse()
        .map_err(|_| io::Error::other(format!("{target} is no address")))?;
    TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
