//! Changes in a namespace, as the kernel tells of them.

use std::collections::VecDeque;
use std::io;

use nix::libc;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use crate::error::{Error, Result};
use crate::model::{Address, FdbEntry, Link, Neighbour, Route};
use crate::netns::Netns;
use crate::transport::next_frame;

/// Bytes read at once; the kernel's notices are far smaller.
const BUFFER: usize = 16 << 10;

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Links come, go and change.
    Links,
    /// Addresses of both families.
    Addresses,
    /// Routes of both families.
    Routes,
    /// Neighbours and forwarding entries.
    Neighbours,
}

/// One change, by whomever, oneself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link came or changed.
    Link(Link),
    /// A link went.
    LinkGone(Link),
    /// An address came or changed.
    Address(Address),
    /// An address went.
    AddressGone(Address),
    /// A unicast or blackhole route came or changed.
    Route(Route),
    /// A unicast or blackhole route went.
    RouteGone(Route),
    /// A neighbour came or changed.
    Neighbour(Neighbour),
    /// A neighbour went.
    NeighbourGone(Neighbour),
    /// A forwarding entry came or changed.
    Fdb(FdbEntry),
    /// A forwarding entry went.
    FdbGone(FdbEntry),
    /// Changes were too many and some are lost: read the tables again.
    Lost,
}

/// Stream of changes in one namespace.
pub struct Events {
    socket: TokioSocket,
    buffer: Vec<u8>,
    queue: VecDeque<Event>,
}

impl Events {
    /// Listens in the calling thread's namespace. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open(topics: &[Topic]) -> Result<Self> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let groups = topics
                .iter()
                .flat_map(|t| t.groups())
                .fold(0, |all, g| all | 1 << (*g as u32 - 1));
            socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Socket { op: "listen", source })?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
            queue: VecDeque::new(),
        })
    }

    /// Listens in `netns`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Netns`], [`Error::Socket`].
    pub fn open_in(netns: &Netns, topics: &[Topic]) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        netns.run(|| {
            let _entered = runtime.enter();
            Self::open(topics)
        })?
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Socket`]; the stream is of no use after it.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            self.buffer.clear();
            self.buffer.reserve(BUFFER);
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) => self.take(),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Event::Lost),
                Err(source) => return Err(Error::Socket { op: "listen", source }),
            }
        }
    }

    fn take(&mut self) {
        let mut bytes = &self.buffer[..];
        while let Some((frame, rest)) = next_frame(bytes) {
            bytes = rest;
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame) {
                Ok(message) => {
                    if let NetlinkPayload::InnerMessage(inner) = message.payload {
                        self.queue.extend(Event::from_message(&inner));
                    }
                }
                Err(error) => tracing::warn!(%error, "a route netlink notice was not understood"),
            }
        }
    }
}

impl Topic {
    fn groups(self) -> &'static [MulticastGroup] {
        match self {
            Self::Links => &[MulticastGroup::Link],
            Self::Addresses => &[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr],
            Self::Routes => &[MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route],
            Self::Neighbours => &[MulticastGroup::Neigh],
        }
    }
}

impl Event {
    fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        match message {
            // The bridge's own notices (family `bridge`) are of ports; a port that leaves is not a link that goes.
            RouteNetlinkMessage::NewLink(m) | RouteNetlinkMessage::DelLink(m)
                if m.header.interface_family == AddressFamily::Bridge =>
            {
                None
            }
            RouteNetlinkMessage::NewLink(m) => Some(Self::Link(Link::from_message(m))),
            RouteNetlinkMessage::DelLink(m) => Some(Self::LinkGone(Link::from_message(m))),
            RouteNetlinkMessage::NewAddress(m) => Address::from_message(m).map(Self::Address),
            RouteNetlinkMessage::DelAddress(m) => Address::from_message(m).map(Self::AddressGone),
            RouteNetlinkMessage::NewRoute(m) => Route::from_notice(m).map(Self::Route),
            RouteNetlinkMessage::DelRoute(m) => Route::from_notice(m).map(Self::RouteGone),
            RouteNetlinkMessage::NewNeighbour(m) => Neighbour::from_message(m)
                .map(Self::Neighbour)
                .or_else(|| FdbEntry::from_message(m).map(Self::Fdb)),
            RouteNetlinkMessage::DelNeighbour(m) => Neighbour::from_message(m)
                .map(Self::NeighbourGone)
                .or_else(|| FdbEntry::from_message(m).map(Self::FdbGone)),
            _ => None,
        }
    }
}
