use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::batch::msg;
use crate::error::Error;
use crate::object::{Family, NFTA_TABLE, TableRef};
use crate::socket::{bind, netfilter_socket, receive};
use crate::wire::{Message, Messages};

/// `NFNLGRP_NFTABLES` as a bit of the bind address.
const GROUP_NFTABLES: u32 = 1 << (7 - 1);
const RECEIVE_BUFFER: usize = 64 << 10;
/// Where `nlmsg_pid` stands in a message.
const PORTID_OFFSET: u32 = 12;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A table was created.
    TableAdded,
    /// A table is gone.
    TableDeleted,
    /// A chain, set, rule or element was created, changed or deleted.
    Content,
}

/// A change of the ruleset that someone made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A change in a table.
    Changed {
        /// The table.
        table: TableRef,
        /// What happened to it.
        subject: Subject,
        /// Netlink address of who did it.
        portid: u32,
    },
    /// Notices were lost; anything may have changed.
    Lost,
}

/// Notices of changes of the ruleset in the network namespace that the calling thread had when it was opened.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens a non-blocking monitor. Changes made through the socket with the netlink address `ignore` are
    /// held back in the kernel, so that one's own large batches cost nothing here.
    pub fn open(ignore: Option<u32>) -> Result<Self, Error> {
        let fd = netfilter_socket(libc::SOCK_NONBLOCK).map_err(Error::Open)?;
        if let Some(portid) = ignore {
            attach_filter(&fd, portid).map_err(Error::Open)?;
        }
        bind(&fd, GROUP_NFTABLES).map_err(Error::Open)?;
        Ok(Self {
            fd,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// The notices that wait, none if there are none; never blocks.
    pub fn drain(&mut self) -> Result<Vec<Notice>, Error> {
        let mut notices = Vec::new();
        loop {
            match receive(&self.fd, &mut self.buffer, 0) {
                Ok(length) => {
                    let read = Messages(&self.buffer[..length]).filter_map(|message| notice(&message));
                    for notice in read {
                        if notices.last() != Some(&notice) {
                            notices.push(notice);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(notices),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) => {
                    notices.push(Notice::Lost);
                }
                Err(source) => {
                    let what = "notices of ruleset changes".to_owned();
                    return Err(Error::Receive { what, source });
                }
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn notice(message: &Message<'_>) -> Option<Notice> {
    if message.kind >> 8 != msg::full(0) >> 8 {
        return None;
    }
    let subject = match message.kind & 0xff {
        msg::NEWTABLE => Subject::TableAdded,
        msg::DELTABLE => Subject::TableDeleted,
        msg::NEWGEN => return None,
        _ => Subject::Content,
    };
    let name = message.attrs().text(NFTA_TABLE)?;
    let table = TableRef::new(Family::from_number(message.family()), name);
    Some(Notice::Changed {
        table,
        subject,
        portid: message.portid,
    })
}

/// A socket filter that drops datagrams whose first message carries this netlink address.
fn attach_filter(fd: &OwnedFd, portid: u32) -> io::Result<()> {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Classic BPF loads words in network order; the field is in host order.
    let mut program = [
        step(load, 0, 0, PORTID_OFFSET),
        step(jump, 0, 1, portid.to_be()),
        step(ret, 0, 0, 0),
        step(ret, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let pointer = std::ptr::from_ref(&filter).cast();
    // SAFETY: `filter` points at `program`; both outlive the call, which copies them.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            pointer,
            length,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
