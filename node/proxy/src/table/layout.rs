//! Where the fields of keys and values stand, in bytes and in registers; both families have the same fields.

use knode_nft::{FieldType, KeyType, Reg};

use crate::model::IpFamily;

/// The fields of one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout(pub IpFamily);

impl Layout {
    pub fn is_v6(self) -> bool {
        self.0 == IpFamily::V6
    }

    /// `NFPROTO_*`.
    pub fn nfproto(self) -> u8 {
        if self.is_v6() { 10 } else { 2 }
    }

    /// Bytes of an address.
    pub fn address_len(self) -> usize {
        if self.is_v6() { 16 } else { 4 }
    }

    /// Registers of an address.
    pub fn words(self) -> u8 {
        (self.address_len() / 4) as u8
    }

    /// The register after those of an address that begins here.
    pub fn after(self, reg: Reg) -> Reg {
        Reg(reg.0 + self.words())
    }

    /// Address, protocol and port of the frontend begin at register 0; after them the index.
    pub fn index(self) -> Reg {
        Reg(self.words() + 2)
    }

    /// Address and port of the endpoint that was drawn.
    pub fn drawn(self) -> Reg {
        Reg(self.words() + 3)
    }

    /// Where address, protocol and port that clients are remembered under stand behind the client's address.
    pub fn home(self) -> Reg {
        Reg(self.words())
    }

    /// Address and port of the endpoint that the client had the last time.
    pub fn remembered(self) -> Reg {
        Reg(2 * self.words() + 2)
    }

    fn address(self) -> FieldType {
        if self.is_v6() {
            FieldType::Ipv6Addr
        } else {
            FieldType::Ipv4Addr
        }
    }

    /// Address, protocol, port.
    pub fn frontend(self) -> KeyType {
        KeyType::new([self.address(), FieldType::InetProto, FieldType::InetService])
    }

    /// Address, protocol, port, index.
    pub fn numbered(self) -> KeyType {
        KeyType::new([
            self.address(),
            FieldType::InetProto,
            FieldType::InetService,
            FieldType::Mark,
        ])
    }

    /// Address, port.
    pub fn endpoint(self) -> KeyType {
        KeyType::new([self.address(), FieldType::InetService])
    }

    /// Client, address, protocol, port.
    pub fn client(self) -> KeyType {
        KeyType::new([
            self.address(),
            self.address(),
            FieldType::InetProto,
            FieldType::InetService,
        ])
    }

    /// Two addresses.
    pub fn pair(self) -> KeyType {
        KeyType::new([self.address(), self.address()])
    }
}
