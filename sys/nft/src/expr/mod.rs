//! Expressions: the instructions of a rule.

mod decode;
mod encode;
mod keys;
pub mod matching;
mod show;

pub use keys::{
    CmpOp, CtDir, CtKey, DynsetOp, FibFlags, FibResult, MetaKey, NatFlags, NatKind, PayloadBase, RejectKind,
};

use std::time::Duration;

use crate::object::Verdict;

/// One of the sixteen 32-bit registers; longer values take several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u8);

/// One instruction of a rule. A comparison or a lookup without data that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads bytes of the packet.
    Payload {
        /// Where to.
        dreg: Reg,
        /// Which header the offset counts from.
        base: PayloadBase,
        /// Bytes from there.
        offset: u32,
        /// Bytes to load.
        len: u32,
    },
    /// Loads a fact about the packet.
    Meta {
        /// Where to.
        dreg: Reg,
        /// Which fact.
        key: MetaKey,
    },
    /// Changes a fact about the packet, such as its mark.
    MetaSet {
        /// Which fact.
        key: MetaKey,
        /// Where the new value stands.
        sreg: Reg,
    },
    /// Loads a fact about the packet's connection.
    Ct {
        /// Where to.
        dreg: Reg,
        /// Which fact.
        key: CtKey,
        /// Of which direction, for the facts that have one.
        dir: Option<CtDir>,
    },
    /// Goes on only if the comparison holds.
    Cmp {
        /// What is compared.
        sreg: Reg,
        /// How.
        op: CmpOp,
        /// With what.
        data: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`.
    Bitwise {
        /// Where from.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// The mask, as long as the value.
        mask: Vec<u8>,
        /// The bits to turn.
        xor: Vec<u8>,
    },
    /// Goes on only if the key is in a set; loads the data if it is a map.
    Lookup {
        /// The set's name.
        set: String,
        /// Where the key stands.
        sreg: Reg,
        /// Where the data goes, for a map.
        dreg: Option<Reg>,
        /// Goes on only if the key is not in the set.
        invert: bool,
    },
    /// Follows the verdict that a verdict map holds for the key.
    LookupVerdict {
        /// The map's name.
        set: String,
        /// Where the key stands.
        sreg: Reg,
    },
    /// Loads a constant.
    Immediate {
        /// Where to.
        dreg: Reg,
        /// The constant.
        data: Vec<u8>,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Translates an address.
    Nat {
        /// Which one.
        kind: NatKind,
        /// The family of the address: `NFPROTO_IPV4` or `NFPROTO_IPV6`.
        family: u8,
        /// Where the new address stands.
        addr: Option<Reg>,
        /// Where the new port stands.
        port: Option<Reg>,
        /// Options.
        flags: NatFlags,
    },
    /// Translates the source to the address of the interface it leaves by.
    Masquerade(NatFlags),
    /// Loads a number below the modulus, plus the offset.
    NumGen {
        /// Where to.
        dreg: Reg,
        /// One more than the highest.
        modulus: u32,
        /// A random number instead of the next one.
        random: bool,
        /// Added to it.
        offset: u32,
    },
    /// Asks the routing table about an address of the packet.
    Fib {
        /// Where to.
        dreg: Reg,
        /// What to ask for.
        result: FibResult,
        /// About which address.
        flags: FibFlags,
    },
    /// Counts packets and bytes; the counts themselves are not part of the value.
    Counter,
    /// Refuses the packet with an answer to its sender.
    Reject(RejectKind),
    /// Adds, refreshes or deletes an element of a dynamic set.
    Dynset {
        /// The set's name.
        set: String,
        /// What to do.
        op: DynsetOp,
        /// Where the key stands.
        key: Reg,
        /// Where the data stands, for a map.
        data: Option<Reg>,
        /// How long the element lives, in whole milliseconds.
        timeout: Option<Duration>,
    },
    /// An expression that this crate does not model; only in dumps.
    Other(String),
}
