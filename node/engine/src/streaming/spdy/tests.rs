use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::client::Client;
use super::frame::{Frame, decode, encode};
use super::headers::{Decoder, Encoder, dictionary};
use super::process::Shape;
use crate::streaming::channel::{self, ClientEvent, Ends, Outcome, Output, ServerEvent};
use crate::streaming::ports::Dialer;

/// The checksum that zlib streams of SPDY/3 carry to name the dictionary.
#[test]
fn the_dictionary_is_that_of_the_protocol() {
    let bytes = dictionary();
    let (mut a, mut b) = (1u32, 0u32);
    for byte in &bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!((bytes.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
}

#[test]
fn header_blocks_of_one_connection_share_their_compression() {
    let mut encoder = Encoder::new().unwrap();
    let mut decoder = Decoder::new();
    let mut sizes = Vec::new();
    for kind in ["error", "stdout", "stdout"] {
        let block = encoder.encode(&[("streamtype", kind), ("port", "80")]).unwrap();
        sizes.push(block.len());
        let headers = decoder.decode(&block).unwrap();
        assert_eq!(
            headers,
            [
                ("streamtype".into(), kind.to_string()),
                ("port".into(), "80".into())
            ]
        );
    }
    assert!(sizes[2] < sizes[0], "{sizes:?}");
}

#[test]
fn an_empty_header_block_is_read() {
    let block = Encoder::new().unwrap().encode(&[]).unwrap();
    assert_eq!(&block[..6], &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
    assert!(Decoder::new().decode(&block).unwrap().is_empty());
}

#[test]
fn frames_survive_being_cut_anywhere() {
    let frames = [
        Frame::SynStream {
            stream: 1,
            fin: false,
            headers: Bytes::from_static(b"abc"),
        },
        Frame::SynReply {
            stream: 1,
            fin: true,
            headers: Bytes::new(),
        },
        Frame::Data {
            stream: 3,
            fin: true,
            bytes: Bytes::from_static(b"hello"),
        },
        Frame::Reset { stream: 5, status: 5 },
        Frame::Ping { id: 7 },
        Frame::GoAway { last: 5, status: 0 },
    ];
    let mut wire = BytesMut::new();
    for frame in &frames {
        encode(frame, &mut wire);
    }
    let mut buffer = BytesMut::new();
    let mut got = Vec::new();
    for byte in wire {
        buffer.extend_from_slice(&[byte]);
        while let Some(frame) = decode(&mut buffer).unwrap() {
            got.push(frame);
        }
    }
    assert_eq!(got, frames);
}

#[test]
fn what_is_not_spdy_is_refused() {
    assert!(decode(&mut BytesMut::from(&b"\x80\x02\x00\x01\x00\x00\x00\x00"[..])).is_err());
    assert!(
        decode(&mut BytesMut::from(
            &b"\x80\x03\x00\x03\x00\x00\x00\x02\x00\x00"[..]
        ))
        .is_err()
    );
}

const SHAPE: Shape = Shape {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
    status_object: true,
    resizes: true,
};

/// A server for one process, the client, and the process's ends.
async fn served(shape: Shape) -> (Client<DuplexStream>, tokio::sync::oneshot::Receiver<Ends>) {
    let (near, far) = tokio::io::duplex(1024);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(super::process::carry(far, shape, move || {
        let (near, far) = channel::pair();
        // The test may not care.
        let _ = sender.send(near);
        far
    }));
    (Client::new(near), receiver)
}

#[tokio::test]
async fn a_process_has_its_streams() {
    let (mut client, process) = served(SHAPE).await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    client.data(stdin, "early", false).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let stderr = client.open(&[("streamtype", "stderr")]).await;
    let mut process = process.await.unwrap();
    client.data(stdin, "late", true).await;
    client.ping(77).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(process.events.recv().await.unwrap());
    }
    let wanted = [
        ClientEvent::Stdin("early".into()),
        ClientEvent::Stdin("late".into()),
        ClientEvent::StdinEnd,
    ];
    assert_eq!(events, wanted);
    process
        .output
        .send(ServerEvent::Data(Output::Stdout, "out".into()))
        .await
        .unwrap();
    process
        .output
        .send(ServerEvent::Data(Output::Stderr, "err".into()))
        .await
        .unwrap();
    process
        .output
        .send(ServerEvent::End(Outcome::Success))
        .await
        .unwrap();
    client.until_ended(&[stdout, stderr, error]).await;
    assert_eq!(client.said[&stdout].0, "out");
    assert_eq!(client.said[&stderr].0, "err");
    assert_eq!(client.said[&error].0, "{\"metadata\":{},\"status\":\"Success\"}");
}

#[tokio::test]
async fn a_terminal_has_sizes_and_old_clients_get_text() {
    let shape = Shape {
        stderr: false,
        tty: true,
        status_object: false,
        ..SHAPE
    };
    let (mut client, process) = served(shape).await;
    let error = client.open(&[("streamtype", "error")]).await;
    client.open(&[("streamtype", "stdin")]).await;
    client.open(&[("streamtype", "stdout")]).await;
    let sizes = client.open(&[("streamtype", "resize")]).await;
    let mut process = process.await.unwrap();
    client.data(sizes, "{\"Width\":8", false).await;
    client
        .data(sizes, "0,\"Height\":24}\n{\"Width\":81,\"Height\":25}", false)
        .await;
    assert_eq!(
        process.events.recv().await,
        Some(ClientEvent::Resize {
            columns: 80,
            rows: 24
        })
    );
    assert_eq!(
        process.events.recv().await,
        Some(ClientEvent::Resize {
            columns: 81,
            rows: 25
        })
    );
    let outcome = Outcome::Exit {
        code: 2,
        command: vec!["x".into()],
    };
    process.output.send(ServerEvent::End(outcome)).await.unwrap();
    client.until_ended(&[error]).await;
    assert_eq!(client.said[&error].0, "error executing command [x], exit code 2");
}

#[tokio::test]
async fn a_process_learns_that_its_client_is_gone() {
    let shape = Shape {
        stdin: false,
        stdout: false,
        stderr: false,
        ..SHAPE
    };
    let (mut client, process) = served(shape).await;
    client.open(&[("streamtype", "error")]).await;
    let mut process = process.await.unwrap();
    drop(client);
    assert_eq!(process.events.recv().await, None);
}

#[tokio::test]
async fn ports_are_forwarded_side_by_side() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                stream
                    .write_all(format!("you said {text}").as_bytes())
                    .await
                    .unwrap();
            });
        }
    });
    let (near, far) = tokio::io::duplex(1024);
    tokio::spawn(super::ports::carry(far, Arc::new(Dialer::to_host())));
    let mut client = Client::new(near);
    let mut streams = Vec::new();
    for request in ["0", "1"] {
        let of = |kind| {
            [
                ("streamtype", kind),
                ("port", port.as_str()),
                ("requestid", request),
            ]
        };
        let error = client.open(&of("error")).await;
        client.data(error, "", true).await;
        streams.push((client.open(&of("data")).await, error));
    }
    for (data, _) in &streams {
        client.data(*data, &format!("{data}"), true).await;
    }
    for (data, error) in streams {
        client.until_ended(&[data, error]).await;
        assert_eq!(client.said[&data].0, format!("you said {data}"));
        assert_eq!(client.said[&error].0, "");
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_of_that_connection() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let (near, far) = tokio::io::duplex(1024);
    tokio::spawn(super::ports::carry(far, Arc::new(Dialer::to_host())));
    let mut client = Client::new(near);
    let of = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
    let error = client.open(&of("error")).await;
    let data = client.open(&of("data")).await;
    client.until_ended(&[error, data]).await;
    assert!(client.said[&error].0.contains("refused"), "{:?}", client.said);
}
