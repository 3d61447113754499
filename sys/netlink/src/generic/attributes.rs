//! Attributes of generic netlink messages: written nested, read one after another.

/// Length of `struct nlattr`.
const HEADER: usize = 4;
/// Length of `struct genlmsghdr`.
const COMMAND: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const KIND: u16 = 0x3fff;

/// A message being written.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins with `struct genlmsghdr`.
    pub fn command(command: u8, version: u8) -> Self {
        Self {
            bytes: vec![command, version, 0, 0],
        }
    }

    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = (HEADER + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// Writes an attribute whose value is attributes; it must stay below 64 KiB.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        write(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads attributes: kind and value.
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Those behind `struct genlmsghdr`.
    pub fn of_command(bytes: &'a [u8]) -> Self {
        Self(bytes.get(COMMAND..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.get(..HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}
