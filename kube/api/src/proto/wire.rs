//! Protobuf's wire form.
use super::ProtoError;

/// One field's content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    pub fn bytes(self) -> Result<&'a [u8], ProtoError> {
        match self {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Varint(_) => Err(ProtoError::WireType(0)),
            Content::Fixed64(_) => Err(ProtoError::WireType(1)),
            Content::Fixed32 => Err(ProtoError::WireType(5)),
        }
    }

    /// A varint as the signed number that Kubernetes' integers are.
    pub fn integer(self) -> Result<i64, ProtoError> {
        match self {
            Content::Varint(n) => Ok(n.cast_signed()),
            Content::Bytes(_) => Err(ProtoError::WireType(2)),
            Content::Fixed64(_) => Err(ProtoError::WireType(1)),
            Content::Fixed32 => Err(ProtoError::WireType(5)),
        }
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The next field, `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Content<'a>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtoError::Truncated)?;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::Truncated)?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            other => return Err(ProtoError::WireType(u32::try_from(other).unwrap_or(7))),
        };
        Ok(Some((number, content)))
    }

    /// A varint standing alone, as in packed lists.
    pub fn packed(&mut self) -> Result<Option<i64>, ProtoError> {
        if self.rest.is_empty() {
            Ok(None)
        } else {
            self.varint().map(|n| Some(n.cast_signed()))
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        self.take(N)?.try_into().map_err(|_| ProtoError::Truncated)
    }

    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut out = 0_u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            out |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(out);
            }
        }
        Err(ProtoError::Truncated)
    }
}

pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Writer {
            out: Vec::with_capacity(capacity),
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn raw_varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
            n >>= 7;
        }
        self.out.push(u8::try_from(n).unwrap_or(0));
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        self.raw_varint(u64::from(number << 3 | wire_type));
    }

    pub fn varint(&mut self, number: u32, n: i64) {
        self.tag(number, 0);
        self.raw_varint(n.cast_unsigned());
    }

    pub fn double(&mut self, number: u32, n: f64) {
        self.tag(number, 1);
        self.extend(&n.to_le_bytes());
    }

    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, 2);
        self.raw_varint(bytes.len() as u64);
        self.extend(bytes);
    }

    /// A message whose length is known once it is written: it goes to the end and its length is put before.
    pub fn message(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), ProtoError>,
    ) -> Result<(), ProtoError> {
        self.tag(number, 2);
        let start = self.out.len();
        write(self)?;
        let mut length = Writer::with_capacity(5);
        length.raw_varint((self.out.len() - start) as u64);
        self.out.splice(start..start, length.out);
        Ok(())
    }
}
