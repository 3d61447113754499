use super::{NLMSG_HDR, align4};

const NLA_F_NESTED: u16 = 0x8000;

/// Appends netlink messages and attributes to one buffer.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Appends what another writer holds; both must stand at a message's end.
    pub fn extend(&mut self, other: &Self) {
        self.buffer.extend_from_slice(&other.buffer);
    }

    /// Opens a netfilter message and returns its place, to be closed with [`Writer::end`].
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32, family: u8, resource: u16) -> usize {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&seq.to_ne_bytes());
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
        self.buffer.extend_from_slice(&[family, 0]);
        self.buffer.extend_from_slice(&resource.to_be_bytes());
        start
    }

    /// Closes the message begun at `start`.
    pub fn end(&mut self, start: usize) {
        let length = (self.buffer.len() - start) as u32;
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sets more flags on the message begun at `start`.
    pub fn add_flags(&mut self, start: usize, flags: u16) {
        let at = start + 6;
        let old = u16::from_ne_bytes([self.buffer[at], self.buffer[at + 1]]);
        self.buffer[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Numbers the message begun at `start`.
    pub fn set_seq(&mut self, start: usize, seq: u32) {
        self.buffer[start + 8..start + NLMSG_HDR - 4].copy_from_slice(&seq.to_ne_bytes());
    }

    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let length = (payload.len() + 4) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(align4(self.buffer.len()), 0);
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        let length = (value.len() + 5) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value.as_bytes());
        self.buffer.push(0);
        self.buffer.resize(align4(self.buffer.len()), 0);
    }

    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.begin_nest(kind);
        fill(self);
        self.end_nest(start);
    }

    /// Opens a nested attribute, to be closed with [`Writer::end_nest`] before it holds 64 KiB.
    pub fn begin_nest(&mut self, kind: u16) -> usize {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0, 0]);
        self.buffer
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        start
    }

    pub fn end_nest(&mut self, start: usize) {
        let length = (self.buffer.len() - start) as u16;
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}
