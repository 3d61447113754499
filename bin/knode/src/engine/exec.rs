//! `exec`: a WebSocket to the engine's streaming server, as `kubectl exec` speaks it (`v5.channel.k8s.io`).

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt};
use knode_cri::{ExecRequest, RuntimeService};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::cli::Place;
use super::find;

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Exit code where the command's own is not known.
const UNKNOWN: u8 = 255;

/// Runs a command; the exit code is the command's.
pub async fn run(
    place: &Place,
    word: &str,
    command: Vec<String>,
    input: bool,
    tty: bool,
) -> anyhow::Result<ExitCode> {
    let engine = find::engine(place).await?;
    let container = find::container(&engine, word).await?;
    ensure!(
        !tty || std::io::stdin().is_terminal(),
        "--tty needs a terminal as standard input"
    );
    let request = ExecRequest {
        container_id: container.id,
        cmd: command,
        tty,
        stdin: input,
        stdout: true,
        stderr: !tty,
    };
    let url = engine.exec(request).await.context("run the command")?.url;
    let socket = connect(&url).await.with_context(|| format!("connect to {url}"))?;
    let _raw = tty.then(Raw::enter).transpose().context("use the terminal")?;
    converse(socket, input, tty).await
}

async fn connect(url: &str) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let address = url.strip_prefix("http://").context("not an HTTP address")?;
    let host = address.split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}").into_client_request()?;
    request
        .headers_mut()
        .insert("sec-websocket-protocol", http::HeaderValue::from_static(PROTOCOL));
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    Ok(socket)
}

async fn converse(socket: WebSocketStream<TcpStream>, input: bool, tty: bool) -> anyhow::Result<ExitCode> {
    let (mut sink, mut stream) = socket.split();
    let mut typed = read_input(input);
    let mut open = input;
    let mut resized = signal(SignalKind::window_change()).context("watch the terminal's size")?;
    if tty {
        sink.send(size()?).await?;
    }
    let mut code = None;
    loop {
        tokio::select! {
            bytes = typed.recv(), if open => match bytes {
                Some(bytes) => sink.send(frame(STDIN, &bytes)).await?,
                None => {
                    open = false;
                    sink.send(frame(CLOSE, &[STDIN])).await?;
                }
            },
            _ = resized.recv(), if tty => sink.send(size()?).await?,
            message = stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) => code = show(&bytes)?.or(code),
                Some(Ok(Message::Close(_))) | None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("hear the command"),
            },
        }
    }
    code.context("the command's end was not told").map(ExitCode::from)
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut message = vec![channel];
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// Prints what has come; gives the exit code once it is told.
fn show(bytes: &[u8]) -> anyhow::Result<Option<u8>> {
    let Some((channel, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let print = |mut to: Box<dyn Write>| to.write_all(rest).and_then(|()| to.flush()).context("print");
    match *channel {
        STDOUT => print(Box::new(std::io::stdout()))?,
        STDERR => print(Box::new(std::io::stderr()))?,
        ERROR => return outcome(rest).map(Some),
        _ => {}
    }
    Ok(None)
}

/// What a `Status` says of the command's end.
fn outcome(status: &[u8]) -> anyhow::Result<u8> {
    let status: Value = serde_json::from_slice(status).context("read how the command ended")?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode");
    match code
        .and_then(|cause| cause["message"].as_str())
        .map(str::parse::<i32>)
    {
        Some(Ok(code)) => Ok(u8::try_from(code).unwrap_or(UNKNOWN)),
        _ => anyhow::bail!("{}", status["message"].as_str().unwrap_or("the command failed")),
    }
}

/// What is typed, as it comes. Reading cannot be interrupted: the thread ends with the process.
fn read_input(wanted: bool) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    if wanted {
        std::thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(count @ 1..) = std::io::stdin().read(&mut chunk) {
                if sender.blocking_send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn size() -> anyhow::Result<Message> {
    let (columns, rows) = knode_linux::tty::size(&std::io::stdin()).context("ask the terminal's size")?;
    Ok(frame(
        RESIZE,
        json!({"Width": columns, "Height": rows}).to_string().as_bytes(),
    ))
}

/// The terminal passes on what is typed as it is, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> nix::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0) {
            eprintln!("the terminal stays as it is: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_end_is_its_exit_code_or_why_it_did_not_run() {
        assert_eq!(outcome(br#"{"status":"Success"}"#).unwrap(), 0);
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(outcome(failed.to_string().as_bytes()).unwrap(), 3);
        let refused = json!({"status": "Failure", "message": "no such program"});
        assert!(
            outcome(refused.to_string().as_bytes())
                .unwrap_err()
                .to_string()
                .contains("no such program")
        );
        assert!(outcome(b"?").is_err());
    }

    #[test]
    fn a_message_names_its_channel() {
        assert_eq!(frame(CLOSE, &[STDIN]), Message::Binary(vec![255, 0].into()));
        assert_eq!(
            show(&[ERROR, b'{', b'}']).unwrap_err().to_string(),
            "the command failed"
        );
        assert_eq!(show(&[]).unwrap(), None);
    }
}
