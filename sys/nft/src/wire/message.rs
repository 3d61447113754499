use super::{Attrs, NFNL_HDR, NLMSG_HDR, align4};

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// One netlink message as received or as written.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub portid: u32,
    /// All of it, with the header.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The address family of the netfilter header.
    pub fn family(&self) -> u8 {
        self.bytes.get(NLMSG_HDR).copied().unwrap_or_default()
    }

    /// The attributes behind the netfilter header.
    pub fn attrs(&self) -> Attrs<'a> {
        Attrs(self.bytes.get(NFNL_HDR..).unwrap_or_default())
    }
}

/// The messages in a datagram; a malformed one ends the iteration.
pub(crate) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<NLMSG_HDR>()?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let bytes = self.0.get(..length).filter(|bytes| bytes.len() >= NLMSG_HDR)?;
        self.0 = self.0.get(align4(length)..).unwrap_or_default();
        Some(Message {
            kind: half(4),
            flags: half(6),
            seq: word(8),
            portid: word(12),
            bytes,
        })
    }
}

/// The errno of an acknowledgement: 0 for success.
pub(crate) fn ack_errno(message: &Message<'_>) -> i32 {
    let code = message
        .bytes
        .get(NLMSG_HDR..)
        .and_then(|rest| rest.first_chunk::<4>());
    -code.map_or(-libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes))
}

/// Where in the refused message the attribute stands that the kernel objected to.
pub(crate) fn error_offset(message: &Message<'_>) -> Option<usize> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let refused = NLMSG_HDR + 4;
    let length = message
        .bytes
        .get(refused..)
        .and_then(|rest| rest.first_chunk::<4>())?;
    let echoed = if message.flags & NLM_F_CAPPED != 0 {
        NLMSG_HDR
    } else {
        align4(u32::from_ne_bytes(*length) as usize)
    };
    let tlvs = Attrs(message.bytes.get(refused + echoed..)?);
    let offset = tlvs.get(NLMSGERR_ATTR_OFFS)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*offset) as usize)
}
