use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::batch::{Batch, msg};
use crate::error::Error;
use crate::wire::{
    Message, Messages, NFNL_HDR, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, Writer, ack_errno, error_offset,
};

const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const SNDBUF_FLOOR: usize = 1 << 20;
/// The kernel fills at most 32 KiB a read.
const RECEIVE_BUFFER: usize = 128 << 10;
/// How often an interrupted listing is begun again.
const LIST_ATTEMPTS: usize = 8;
const NFTA_GEN_ID: u16 = 1;

/// A netlink socket to netfilter, in the network namespace that the calling thread had when it was opened.
///
/// Keep it: closing one after a commit that deleted something waits for the kernel to free it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    portid: u32,
    seq: u32,
    sndbuf: usize,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        let fd = netfilter_socket(0).map_err(Error::Open)?;
        for option in [NETLINK_CAP_ACK, NETLINK_EXT_ACK] {
            set_option(&fd, libc::SOL_NETLINK, option, 1).map_err(Error::Open)?;
        }
        let portid = bind(&fd, 0).map_err(Error::Open)?;
        Ok(Self {
            fd,
            portid,
            seq: 1,
            sndbuf: 0,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// The socket's netlink address, by which change notices name who made a change.
    pub fn portid(&self) -> u32 {
        self.portid
    }

    /// Applies all commands of a batch, or none. An empty batch does nothing.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let begin = self.seq;
        let last = begin + batch.len() as u32;
        self.seq = last.wrapping_add(2).max(1);
        let datagram = batch.datagram(begin);
        let what = || format!("the batch for {}", batch.table());
        self.reserve_send(datagram.len())
            .map_err(|source| Error::Send { what: what(), source })?;
        self.send(&datagram)
            .map_err(|source| Error::Send { what: what(), source })?;
        self.acknowledgements(batch, begin, last)
    }

    /// The kernel has handled the whole batch when `send` returns, so every answer is waiting already.
    fn acknowledgements(&mut self, batch: &Batch, begin: u32, last: u32) -> Result<(), Error> {
        let what = || format!("the batch for {}", batch.table());
        let mut applied = false;
        let mut refused = None;
        loop {
            let length = match self.receive(libc::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Refusals beyond what the buffer holds are lost; the first are what is told.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(source) => return Err(Error::Receive { what: what(), source }),
            };
            for message in Messages(&self.buffer[..length]) {
                if message.kind != NLMSG_ERROR || !(begin..=last).contains(&message.seq) {
                    continue;
                }
                match ack_errno(&message) {
                    0 => applied |= message.seq == last,
                    errno if refused.is_none() => refused = Some(refusal(batch, &message, begin, errno)),
                    _ => {}
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if applied => Ok(()),
            None => Err(Error::Truncated { what: what() }),
        }
    }

    /// The number of the ruleset's generation; every commit in this network namespace raises it.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let mut generation = None;
        self.request(
            "the ruleset's generation",
            msg::full(msg::GETGEN),
            0,
            0,
            |_| {},
            &mut |message| {
                generation = generation.or(message.attrs().be32(NFTA_GEN_ID));
            },
        )?;
        generation.ok_or_else(|| Error::Truncated {
            what: "the ruleset's generation".to_owned(),
        })
    }

    /// Lists objects; `seen` is called for each message. A listing that a change interrupted is begun
    /// again, `restart` being called first.
    pub(crate) fn list(
        &mut self,
        what: &str,
        kind: u16,
        family: u8,
        fill: impl Fn(&mut Writer),
        restart: &mut dyn FnMut(),
        seen: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), Error> {
        for _ in 0..LIST_ATTEMPTS {
            restart();
            if self.request(what, kind, NLM_F_DUMP, family, &fill, seen)? {
                return Ok(());
            }
        }
        let source = io::Error::from_raw_os_error(libc::EINTR);
        Err(Error::List {
            what: what.to_owned(),
            source,
        })
    }

    /// Sends a request and reads its answer; says whether the answer is consistent.
    pub(crate) fn request(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        family: u8,
        fill: impl Fn(&mut Writer),
        seen: &mut dyn FnMut(&Message<'_>),
    ) -> Result<bool, Error> {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1).max(1);
        let mut out = Writer::default();
        let ack = if flags & NLM_F_DUMP == 0 { NLM_F_ACK } else { 0 };
        let start = out.begin(kind, NLM_F_REQUEST | ack | flags, seq, family, 0);
        fill(&mut out);
        out.end(start);
        self.send(&out).map_err(|source| Error::Send {
            what: what.to_owned(),
            source,
        })?;
        let mut consistent = true;
        loop {
            let length = self.receive(0).map_err(|source| Error::Receive {
                what: what.to_owned(),
                source,
            })?;
            for message in Messages(&self.buffer[..length]).filter(|message| message.seq == seq) {
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => match ack_errno(&message) {
                        0 => return Ok(consistent),
                        errno => {
                            let source = io::Error::from_raw_os_error(errno);
                            return Err(Error::List {
                                what: what.to_owned(),
                                source,
                            });
                        }
                    },
                    _ if message.bytes.len() >= NFNL_HDR => seen(&message),
                    _ => {}
                }
            }
        }
    }

    /// A batch is sent as one datagram, however long.
    fn reserve_send(&mut self, length: usize) -> io::Result<()> {
        let wanted = (length * 2).max(SNDBUF_FLOOR);
        if wanted > self.sndbuf {
            let size = i32::try_from(wanted).unwrap_or(i32::MAX);
            set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)?;
            self.sndbuf = wanted;
        }
        Ok(())
    }

    fn send(&self, out: &Writer) -> io::Result<()> {
        let bytes = out.bytes();
        // SAFETY: the pointer and the length describe the live slice `bytes`.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<usize> {
        receive(&self.fd, &mut self.buffer, flags)
    }
}

/// What the kernel refused: one command, the whole batch, or a generation that has passed.
fn refusal(batch: &Batch, message: &Message<'_>, begin: u32, errno: i32) -> Error {
    let source = io::Error::from_raw_os_error(errno);
    match (message.seq - begin, batch.expected_generation()) {
        (_, Some(expected)) if errno == libc::ERESTART => Error::GenerationChanged { expected },
        (0, _) => Error::Commit {
            table: batch.table().to_string(),
            source,
        },
        (number, _) => {
            let command = batch.describe(number as usize - 1, error_offset(message));
            Error::Refused { command, source }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A raw netlink socket to netfilter.
pub(crate) fn netfilter_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is fresh and no one else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn set_option(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: i32,
) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Binds to an address that the kernel chooses and to the multicast groups; returns the address.
pub(crate) fn bind(fd: &OwnedFd, groups: u32) -> io::Result<u32> {
    // SAFETY: sockaddr_nl is plain data, for which all zeros is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    let pointer = std::ptr::from_mut(&mut address).cast();
    // SAFETY: pointer and length describe `address`, which outlives the call.
    if unsafe { libc::bind(fd.as_raw_fd(), pointer, length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pointer and length describe `address`, which outlives the call and is large enough.
    if unsafe { libc::getsockname(fd.as_raw_fd(), pointer, &mut length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(address.nl_pid)
}

/// Reads one datagram; one that does not fit is an error.
pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    loop {
        let (pointer, room) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the pointer and the length describe the exclusive slice `buffer`.
        let read = unsafe { libc::recv(fd.as_raw_fd(), pointer, room, flags | libc::MSG_TRUNC) };
        match usize::try_from(read) {
            Ok(length) if length > room => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
            Ok(length) => return Ok(length),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
