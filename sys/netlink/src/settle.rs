//! Waits until the kernel delivers what comes to an IPv6 address. Even without duplicate detection it does the last
//! step, the route to the address itself, some time after it has accepted the address.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};

use crate::error::{Error, Result};
use crate::handle::Handle;

/// `RTNLGRP_IPV6_ROUTE`.
const ROUTES: u32 = 11;
/// `RT_TABLE_LOCAL`.
const TABLE_LOCAL: u32 = 255;
/// Notices are only counted as news; their ends may be cut off.
const BUFFER: usize = 4 << 10;

/// Blocks until all of the addresses, which links of the calling thread's namespace have, are reached through
/// `handle`'s namespace, which is the same; for `bound` at most.
///
/// # Errors
/// [`Error::Socket`], after the bound with the kind `TimedOut`; [`Error::Refused`].
pub fn settle(handle: &Handle, addresses: &[Ipv6Addr], bound: Duration) -> Result<()> {
    if all_local(handle, addresses)? {
        return Ok(());
    }
    let end = Instant::now() + bound;
    let socket = listen().map_err(failed)?;
    // The last change may have come before there was anybody to hear of it.
    while !all_local(handle, addresses)? {
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
        op: "wait for addresses",
        source,
    }
}

fn all_local(handle: &Handle, addresses: &[Ipv6Addr]) -> Result<bool> {
    for ip in addresses {
        let route = handle.route_to(IpAddr::V6(*ip))?;
        if route.is_none_or(|route| route.table != TABLE_LOCAL) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.add_membership(ROUTES)?;
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
