//! Tells the stations of a link which Ethernet address an IP address has now: a gratuitous ARP (RFC 5944, 4.6) or an
//! unsolicited neighbour advertisement (RFC 4861, 7.2.6). Whoever remembers another address forgets it.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

use crate::error::{Error, Result};
use crate::model::MacAddr;

const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// `ff02::1` on Ethernet.
const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;

/// Sends one frame for each address out of the link with this index, in the calling thread's namespace.
///
/// # Errors
/// [`Error::Socket`].
pub fn announce(link: u32, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let socket = open().map_err(|source| Error::Socket {
        op: "open for announcements",
        source,
    })?;
    for address in addresses {
        send(&socket, link, &frame(mac, *address)).map_err(|source| Error::Socket {
            op: "send an announcement",
            source,
        })?;
    }
    Ok(())
}

fn open() -> io::Result<OwnedFd> {
    // Protocol 0: it receives nothing.
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(socket: &OwnedFd, link: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut to: libc::sockaddr_ll = unsafe { zeroed() };
    to.sll_family = libc::AF_PACKET.cast_unsigned() as u16;
    to.sll_ifindex = link.cast_signed();
    // SAFETY: both pointers are to live values of the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn frame(mac: MacAddr, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => arp(mac, ip),
        IpAddr::V6(ip) => advertisement(mac, ip),
    }
}

fn ethernet(to: MacAddr, from: MacAddr, protocol: u16) -> Vec<u8> {
    [&to.0[..], &from.0, &protocol.to_be_bytes()].concat()
}

/// A request for one's own address.
fn arp(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETH_P_ARP);
    // Ethernet, IPv4, lengths of both kinds of addresses, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

fn advertisement(mac: MacAddr, ip: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Type 136 with the flag "override", the target, its link-layer address.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let sum = checksum(ip, all_nodes, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES, mac, ETH_P_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum over pseudo header and message (RFC 4443, 2.3).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let tail = [
        0,
        0,
        (message.len() >> 8) as u8,
        message.len() as u8,
        0,
        0,
        0,
        ICMPV6,
    ];
    let bytes = [&from.octets()[..], &to.octets(), &tail, message].concat();
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x0a, 0x58, 172, 30, 1, 2]);

    #[test]
    fn an_advertisement_sums_to_nothing() {
        let ip: Ipv6Addr = "fd00::2".parse().unwrap();
        let frame = advertisement(MAC, ip);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        assert_eq!(checksum(ip, to, &frame[54..]), 0);
    }

    #[test]
    fn a_gratuitous_request_asks_for_its_own_address() {
        let frame = arp(MAC, Ipv4Addr::new(172, 30, 1, 2));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[28..32], frame[38..42]);
    }
}
