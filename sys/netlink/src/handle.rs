//! Executes requests and reads tables.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::error::{Error, Result};
use crate::model::{Address, FdbEntry, Link, Neighbour, Route, Rule};
use crate::netns::Netns;
use crate::request::{self, LinkRef, Request};
use crate::transport::{Answer, Transport};

/// A connection to the route configuration of one network namespace: that of the thread which opened it,
/// whichever thread uses it. Clones share the socket. Every call blocks until the kernel is done.
#[derive(Debug, Clone)]
pub struct Handle {
    transport: Arc<Mutex<Transport>>,
}

impl Handle {
    /// Opens a handle in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            transport: Arc::new(Mutex::new(Transport::open()?)),
        })
    }

    /// Opens a handle in `netns`; nothing remains there but the socket.
    ///
    /// # Errors
    /// [`Error::Netns`], [`Error::Socket`].
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// Executes one request.
    ///
    /// # Errors
    /// The kernel's refusal, with the request's operation and object.
    pub fn execute(&self, request: Request) -> Result<()> {
        self.execute_all(vec![request])?.pop().unwrap_or(Ok(()))
    }

    /// Executes requests in order, many a system call, going on after refusals; returns one result for each.
    ///
    /// # Errors
    /// [`Error::Socket`] when the connection itself failed.
    pub fn execute_all(&self, requests: Vec<Request>) -> Result<Vec<Result<()>>> {
        let (names, messages): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|r| ((r.op, r.object, r.netns), (r.message, r.flags)))
            .unzip();
        let answers = self.lock().call(messages)?;
        let judge = |(answer, (op, object, _netns)): (Answer, (_, String, _))| match answer {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Error::refused(op, &object, refusal.errno, refusal.detail)),
        };
        Ok(answers.into_iter().zip(names).map(judge).collect())
    }

    /// Executes requests in order and returns the first refusal; those after it were tried as well.
    ///
    /// # Errors
    /// The first refusal, or [`Error::Socket`].
    pub fn execute_each(&self, requests: Vec<Request>) -> Result<()> {
        self.execute_all(requests)?.into_iter().collect()
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn links(&self) -> Result<Vec<Link>> {
        self.dump("dump links", request::dump_links(), |m| match m {
            RouteNetlinkMessage::NewLink(m) => Some(Link::from_message(&m)),
            _ => None,
        })
    }

    /// One link by name or index; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn link<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<Option<Link>> {
        let which = which.into();
        let object = which.to_string();
        let answer = self.lock().call(vec![(request::get_link(which), 0)])?.pop();
        match answer {
            Some(Ok(messages)) => Ok(messages.into_iter().find_map(|m| match m {
                RouteNetlinkMessage::NewLink(m) => Some(Link::from_message(&m)),
                _ => None,
            })),
            Some(Err(refusal)) => match Error::refused("get link", &object, refusal.errno, refusal.detail) {
                Error::NotFound { .. } => Ok(None),
                error => Err(error),
            },
            None => Ok(None),
        }
    }

    /// Addresses, of the link with that index where given.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn addresses(&self, index: Option<u32>) -> Result<Vec<Address>> {
        let all = self.dump("dump addresses", request::dump_addresses(index), |m| match m {
            RouteNetlinkMessage::NewAddress(m) => Address::from_message(&m),
            _ => None,
        })?;
        Ok(all
            .into_iter()
            .filter(|a| index.is_none_or(|i| i == a.index))
            .collect())
    }

    /// Unicast routes of all tables but `local`, both families, through the link with that index where given.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn routes(&self, index: Option<u32>) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for message in request::dump_routes(index) {
            let table = self.dump("dump routes", message, |m| match m {
                RouteNetlinkMessage::NewRoute(m) => Route::from_message(&m),
                _ => None,
            });
            match table {
                Ok(some) => routes.extend(some),
                // A kernel without IPv6 has no such table.
                Err(Error::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        routes.retain(|r| index.is_none_or(|i| r.link == Some(i)));
        Ok(routes)
    }

    /// A family's routes that drop packets ([`Route::blackhole`]); none on a kernel without the family.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn blackholes(&self, ipv6: bool) -> Result<Vec<Route>> {
        let found = self.dump("dump routes", request::dump_blackholes(ipv6), |m| match m {
            RouteNetlinkMessage::NewRoute(m) => Route::from_notice(&m).filter(|route| route.blackhole),
            _ => None,
        });
        match found {
            Err(Error::Unsupported { .. }) => Ok(Vec::new()),
            found => found,
        }
    }

    /// Neighbour entries of a link, both families.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn neighbours(&self, index: u32) -> Result<Vec<Neighbour>> {
        let all = self.dump("dump neighbours", request::dump_neighbours(index), |m| match m {
            RouteNetlinkMessage::NewNeighbour(m) => Neighbour::from_message(&m),
            _ => None,
        })?;
        Ok(all.into_iter().filter(|n| n.index == index).collect())
    }

    /// Forwarding database entries of a link that has its own (VXLAN).
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn fdb(&self, index: u32) -> Result<Vec<FdbEntry>> {
        let all = self.dump("dump fdb", request::dump_fdb(index), |m| match m {
            RouteNetlinkMessage::NewNeighbour(m) => FdbEntry::from_message(&m),
            _ => None,
        })?;
        Ok(all.into_iter().filter(|e| e.index == index).collect())
    }

    /// Queueing disciplines of a link by name, `noqueue` too.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn disciplines(&self, index: u32) -> Result<Vec<String>> {
        let all = self.dump("dump disciplines", request::dump_disciplines(), |m| match m {
            RouteNetlinkMessage::NewQueueDiscipline(m) => request::discipline_of(&m),
            _ => None,
        })?;
        Ok(all
            .into_iter()
            .filter_map(|(link, kind)| (link == index).then_some(kind))
            .collect())
    }

    /// Policy rules of both families.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`].
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for message in request::dump_rules() {
            let table = self.dump("dump rules", message, |m| match m {
                RouteNetlinkMessage::NewRule(m) => Some(Rule::from_message(&m)),
                _ => None,
            });
            match table {
                Ok(some) => rules.extend(some),
                // A kernel without IPv6, or without policy routing, has no such table.
                Err(Error::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rules)
    }

    /// The route that a packet to `destination` would take; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Refused`] (also for unreachable and prohibit routes).
    pub fn route_to(&self, destination: IpAddr) -> Result<Option<Route>> {
        let object = destination.to_string();
        let answer = self
            .lock()
            .call(vec![(request::get_route(destination), 0)])?
            .pop();
        match answer {
            Some(Ok(messages)) => Ok(messages.into_iter().find_map(|m| match m {
                RouteNetlinkMessage::NewRoute(m) => Route::from_any(&m),
                _ => None,
            })),
            Some(Err(refusal)) if refusal.errno == nix::libc::ENETUNREACH => Ok(None),
            Some(Err(refusal)) => Err(Error::refused(
                "get route to",
                &object,
                refusal.errno,
                refusal.detail,
            )),
            None => Ok(None),
        }
    }

    fn dump<T>(
        &self,
        op: &'static str,
        message: RouteNetlinkMessage,
        parse: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>> {
        match self.lock().dump(message)? {
            Ok(messages) => Ok(messages.into_iter().filter_map(parse).collect()),
            Err(refusal) => Err(Error::refused(op, "all", refusal.errno, refusal.detail)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Transport> {
        // A panic between send and receive leaves at most unread answers, which are skipped by their number.
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
