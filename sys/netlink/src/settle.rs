//! Waits until what was asked for is in force: the kernel finishes some changes only after it has accepted them.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};

use crate::error::{Error, Result};
use crate::handle::Handle;

/// `RTNLGRP_LINK` and `RTNLGRP_IPV6_ROUTE`.
const LINKS: u32 = 1;
const ROUTES: u32 = 11;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u32 = 255;
/// Notices are only counted as news; their ends may be cut off.
const BUFFER: usize = 4 << 10;

/// Blocks until what comes to all of these addresses is delivered, for `bound` at most. Even without duplicate detection
/// the route to an IPv6 address itself comes later than the address. Handle and calling thread are in one namespace.
///
/// # Errors
/// [`Error::Socket`], after the bound with the kind `TimedOut`; [`Error::Refused`].
pub fn settle(handle: &Handle, addresses: &[Ipv6Addr], bound: Duration) -> Result<()> {
    until(ROUTES, bound, || {
        for ip in addresses {
            let route = handle.route_to(IpAddr::V6(*ip))?;
            if route.is_none_or(|route| route.table != TABLE_LOCAL) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Blocks until a link that is up has a carrier too, for `bound` at most: before that a bridge passes nothing on to such
/// a port. Handle and calling thread are in one namespace.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Socket`], after the bound with the kind `TimedOut`; [`Error::Refused`].
pub fn settle_link(handle: &Handle, name: &str, bound: Duration) -> Result<()> {
    until(LINKS, bound, || match handle.link(name)? {
        Some(link) => Ok(link.running),
        None => Err(Error::NotFound {
            op: "wait for link",
            object: name.to_owned(),
        }),
    })
}

/// Looks again at every notice of the group.
fn until(group: u32, bound: Duration, done: impl Fn() -> Result<bool>) -> Result<()> {
    if done()? {
        return Ok(());
    }
    let end = Instant::now() + bound;
    let socket = listen(group).map_err(failed)?;
    // The last change may have come before there was anybody to hear of it.
    while !done()? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        wait(&socket, left).map_err(failed)?;
    }
    Ok(())
}

fn failed(source: io::Error) -> Error {
    Error::Socket {
        op: "wait for changes",
        source,
    }
}

fn listen(group: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.add_membership(group)?;
    Ok(socket)
}

/// Waits for news and forgets them.
fn wait(socket: &Socket, bound: Duration) -> io::Result<()> {
    // SAFETY: the socket is open as long as this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    let timeout = PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {}
            // Too much news: some are lost, and all that counts is looked at again anyway.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}
