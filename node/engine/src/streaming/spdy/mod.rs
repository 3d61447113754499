//! SPDY/3.1 as Kubernetes uses it: streams over one connection, without flow control.

mod connection;
mod frame;
mod headers;
pub(super) mod ports;
pub(super) mod process;

#[cfg(test)]
mod client;
#[cfg(test)]
mod tests;

/// Protocols for processes, the best first.
const CHANNEL_PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Protocol for forwarding ports.
pub(super) const PORT_FORWARD: &str = "portforward.k8s.io";

/// Chooses a protocol for a process out of those the client offers; old clients offer none.
pub(super) fn choose(offered: &[String]) -> Option<&'static str> {
    if offered.is_empty() {
        return Some("channel.k8s.io");
    }
    CHANNEL_PROTOCOLS
        .into_iter()
        .find(|protocol| offered.iter().any(|other| other == protocol))
}

/// Reads any bytes as frames with their headers, as they come from a client.
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut buffer = bytes::BytesMut::from(bytes);
    let mut decoder = headers::Decoder::new();
    while let Ok(Some(frame)) = frame::decode(&mut buffer) {
        let (frame::Frame::SynStream { headers, .. } | frame::Frame::Headers { headers, .. }) = frame else {
            continue;
        };
        if decoder.decode(&headers).is_err() {
            return;
        }
    }
}
