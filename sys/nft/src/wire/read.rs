use super::align4;

const NLA_TYPE_MASK: u16 = 0x3fff;

/// The attributes in a stretch of bytes; a malformed one ends the iteration.
#[derive(Clone, Copy)]
pub(crate) struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The payload of the first attribute of this kind.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, payload)| payload)
    }

    pub fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    pub fn text(self, kind: u16) -> Option<&'a str> {
        self.get(kind).and_then(text)
    }

    pub fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(be32)
    }

    pub fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind).and_then(be64)
    }
}

impl<'a> IntoIterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = AttrIter<'a>;

    fn into_iter(self) -> AttrIter<'a> {
        AttrIter(self.0)
    }
}

pub(crate) struct AttrIter<'a>(&'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(align4(length)..).unwrap_or_default();
        Some((kind, payload))
    }
}

fn be32(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn be64(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A NUL-terminated string; `None` if it is not UTF-8.
pub(crate) fn text(payload: &[u8]) -> Option<&str> {
    let end = payload
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).ok()
}
