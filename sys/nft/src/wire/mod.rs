//! Netlink on the wire: attributes and messages, written and read.

mod message;
mod read;
mod write;

pub(crate) use message::{Message, Messages, NLMSG_DONE, NLMSG_ERROR, ack_errno, error_offset};
pub(crate) use read::{Attrs, text};
pub(crate) use write::Writer;

/// Bytes of `struct nlmsghdr`.
pub(crate) const NLMSG_HDR: usize = 16;
/// Bytes of `struct nlmsghdr` and `struct nfgenmsg` together: where attributes begin.
pub(crate) const NFNL_HDR: usize = NLMSG_HDR + 4;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

/// Rounds up to netlink's alignment.
pub(crate) const fn align4(length: usize) -> usize {
    (length + 3) & !3
}
