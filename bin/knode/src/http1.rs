//! One GET over a connection that is there already.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// No page that is asked for here is larger, bytes.
const LARGEST: usize = 4 << 20;

/// The body of a successful answer. The connection is given up afterwards.
pub async fn get<S>(stream: S, host: &str, path: &str) -> anyhow::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("speak HTTP")?;
    // Its error, if any, comes out of the request below.
    let driver = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await.context("ask")?;
    ensure!(
        answer.status().is_success(),
        "the server answered {}",
        answer.status()
    );
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    driver.abort();
    Ok(body
        .map_err(|error| anyhow::anyhow!("read the answer: {error}"))?
        .to_bytes())
}
