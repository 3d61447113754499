//! Features of a link, by the `ethtool` call (`linux/ethtool.h`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Error, Result};
use crate::model::is_link_name;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether checksums of what the link sends are left to the link (`tx-checksum-ip-generic` and its like). Asks in
/// the calling thread's namespace.
///
/// # Errors
/// [`Error::NotFound`] without such a link, [`Error::Unsupported`] when it has no such feature.
pub fn tx_checksum(link: &str) -> Result<bool> {
    let mut value = Value {
        command: ETHTOOL_GTXCSUM,
        data: 0,
    };
    call("get checksum offload of", link, &mut value)?;
    Ok(value.data != 0)
}

/// Leaves checksums of what is sent to the link, or has the kernel compute them before.
///
/// # Errors
/// As [`tx_checksum`].
pub fn set_tx_checksum(link: &str, on: bool) -> Result<()> {
    let mut value = Value {
        command: ETHTOOL_STXCSUM,
        data: u32::from(on),
    };
    call("set checksum offload of", link, &mut value)
}

fn call(op: &'static str, link: &str, value: &mut Value) -> Result<()> {
    if !is_link_name(link) {
        let object = link.to_owned();
        return Err(Error::NotFound { op, object });
    }
    let socket = any_socket()?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
    // SAFETY: the kernel reads and writes one `ethtool_value` behind the pointer for these commands; both it and the
    // request outlive the call, and the name ends with a zero since it is at most 15 bytes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done < 0 {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or_default();
        return Err(Error::refused(op, link, errno, None));
    }
    Ok(())
}

fn any_socket() -> Result<OwnedFd> {
    socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| Error::Socket {
        op: "open",
        source: errno.into(),
    })
}
