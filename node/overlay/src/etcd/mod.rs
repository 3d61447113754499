//! A client of etcd v3, as much of one as leases need: several endpoints, TLS, user and password.

mod client;
mod connect;
mod error;
mod watch;

/// The wire messages.
pub(crate) mod wire {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("etcdserverpb");
}

pub use client::Etcd;
pub(crate) use client::When;
pub use connect::{Access, Credentials, Tls};
pub use error::EtcdError;
pub(crate) use watch::WatchEnd;

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // All keys from here on.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::range_end;

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(range_end(b"/a/"), b"/a0");
        assert_eq!(range_end(b"a\xff"), b"b");
        assert_eq!(range_end(b"\xff\xff"), [0]);
    }
}
