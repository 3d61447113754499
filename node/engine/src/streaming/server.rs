//! The HTTP side of streaming.
use crate::engine::Core;
use std::sync::Weak;
use tokio::net::TcpListener;

pub(super) async fn accept(_listener: TcpListener, _core: Weak<Core>) {}
