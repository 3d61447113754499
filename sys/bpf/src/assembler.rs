//! Instructions, jumps by label (`Documentation/bpf/standardization/instruction-set.rst`).

use std::marker::PhantomData;
use std::os::fd::AsRawFd;

use crate::btf::Function;
use crate::error::{Error, Result};
use crate::map::HashMap;

/// A register. Calls take R1 to R5 and answer in R0; R6 to R9 are kept over calls; R10 is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "numbers")]
pub enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// Width of a load or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// One byte.
    B1 = 0x10,
    /// Two bytes.
    B2 = 0x08,
    /// Four bytes.
    B4 = 0x00,
    /// Eight bytes.
    B8 = 0x18,
}

/// When a jump is taken; orders are of unsigned numbers unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// Equal.
    Equal = 0x10,
    /// Not equal.
    NotEqual = 0x50,
    /// Greater.
    Greater = 0x20,
    /// Less.
    Less = 0xa0,
    /// Less, as signed numbers.
    SignedLess = 0xc0,
    /// Some bit is common.
    AnyBit = 0x40,
}

/// Functions of the kernel with fixed numbers (`enum bpf_func_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Helper {
    /// An entry of a map.
    MapLookup = 1,
    /// A random number of 32 bits.
    Random = 7,
    /// Writes into the packet.
    SkbStoreBytes = 9,
    /// Sends out of an interface.
    Redirect = 23,
    /// The difference of two buffers' Internet checksums.
    ChecksumDifference = 28,
    /// The hash of the packet's flow.
    FlowHash = 34,
    /// Makes the packet longer or shorter behind a header.
    SkbAdjustRoom = 50,
    /// Asks the routing table and the neighbours.
    FibLookup = 69,
    /// Gives back a socket that was looked up.
    SocketRelease = 86,
    /// The TCP socket of a connection, in any of its states.
    TcpLookup = 99,
    /// Time in ticks.
    Jiffies64 = 118,
    /// How many checksums of the packet the hardware has checked.
    ChecksumLevel = 135,
    /// Sends out of an interface to whom the routing table says.
    RedirectNeighbour = 152,
    /// Hands to the other end of a virtual cable.
    RedirectPeer = 155,
    /// Compares a packet with an interface's largest.
    CheckMtu = 163,
}

/// A place in the program to jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Collects instructions. `'m`: maps that the program names.
#[derive(Debug, Default)]
pub struct Assembler<'m> {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    /// Instructions that jump, and where to.
    jumps: Vec<(usize, Label)>,
    maps: PhantomData<&'m ()>,
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x61;
const CLASS_STX: u8 = 0x63;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU: u8 = 0x04;
const CLASS_ALU64: u8 = 0x07;
const OP_MOVE: u8 = 0xb0;
const OP_ADD: u8 = 0x00;
const OP_SUB: u8 = 0x10;
const OP_AND: u8 = 0x50;
const OP_SHIFT_RIGHT: u8 = 0x70;
const OP_XOR: u8 = 0xa0;
const OP_TO_BIG_ENDIAN: u8 = 0xd8;
const OP_EXIT: u8 = 0x90;
const OP_CALL: u8 = 0x80;
/// The second operand is a register.
const FROM_REG: u8 = 0x08;
/// A load of 64 bits given in two instructions.
const WIDE: u8 = 0x18;
/// The number given is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;
/// The number given is a function's in the kernel's types.
const PSEUDO_KFUNC: u8 = 2;

fn encode(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let mut bytes = [code, from << 4 | to, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&number.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

impl<'m> Assembler<'m> {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label to be placed by [`Assembler::place`].
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `to = from`
    pub fn copy(&mut self, to: Reg, from: Reg) {
        self.push(CLASS_ALU64 | OP_MOVE | FROM_REG, to, from, 0, 0);
    }

    /// `to = number`
    pub fn set(&mut self, to: Reg, number: i32) {
        self.push(CLASS_ALU64 | OP_MOVE, to, Reg::R0, 0, number);
    }

    /// `to += number`
    pub fn add(&mut self, to: Reg, number: i32) {
        self.push(CLASS_ALU64 | OP_ADD, to, Reg::R0, 0, number);
    }

    /// `to = from + number`
    pub fn sum(&mut self, to: Reg, from: Reg, number: i32) {
        self.copy(to, from);
        self.add(to, number);
    }

    /// `to += from`
    pub fn add_reg(&mut self, to: Reg, from: Reg) {
        self.push(CLASS_ALU64 | OP_ADD | FROM_REG, to, from, 0, 0);
    }

    /// `to >>= bits`, zeros from above.
    pub fn shift_right(&mut self, to: Reg, bits: i32) {
        self.push(CLASS_ALU64 | OP_SHIFT_RIGHT, to, Reg::R0, 0, bits);
    }

    /// `to ^= number`
    pub fn xor(&mut self, to: Reg, number: i32) {
        self.push(CLASS_ALU64 | OP_XOR, to, Reg::R0, 0, number);
    }

    /// The lower 16 bits in network order, the others zero.
    pub fn to_network16(&mut self, reg: Reg) {
        self.push(CLASS_ALU | OP_TO_BIG_ENDIAN, reg, Reg::R0, 0, 16);
    }

    /// `to = number`, of 64 bits.
    pub fn set64(&mut self, to: Reg, number: u64) {
        let [low, high] = [number, number >> 32].map(|half| (half as u32).cast_signed());
        let wide = encode(CLASS_LD | WIDE, to as u8, 0, 0, low);
        self.code.extend([wide, encode(0, 0, 0, 0, high)]);
    }

    /// `to -= from`, of 32 bits.
    pub fn subtract32(&mut self, to: Reg, from: Reg) {
        self.push(CLASS_ALU | OP_SUB | FROM_REG, to, from, 0, 0);
    }

    /// `to &= number`
    pub fn and(&mut self, to: Reg, number: i32) {
        self.push(CLASS_ALU64 | OP_AND, to, Reg::R0, 0, number);
    }

    /// `to = *(from + offset)`
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(CLASS_LDX | size as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = from`
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.push(CLASS_STX | size as u8, to, from, offset, 0);
    }

    /// `to = map`
    pub fn map<const K: usize, const V: usize>(&mut self, to: Reg, map: &'m HashMap<K, V>) {
        let fd = map.fd().as_raw_fd();
        let wide = encode(CLASS_LD | WIDE, to as u8, PSEUDO_MAP_FD, 0, fd);
        self.code.extend([wide, 0]);
    }

    /// Goes on at the label.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes on at the label if the register compares so with the number.
    pub fn jump_if(&mut self, reg: Reg, condition: Condition, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP | condition as u8, reg, Reg::R0, 0, number);
    }

    /// As [`Assembler::jump_if`], by the lower 32 bits.
    pub fn jump_if32(&mut self, reg: Reg, condition: Condition, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP32 | condition as u8, reg, Reg::R0, 0, number);
    }

    /// Goes on at the label if the registers compare so.
    pub fn jump_if_reg(&mut self, reg: Reg, condition: Condition, other: Reg, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JMP | condition as u8 | FROM_REG, reg, other, 0, 0);
    }

    /// Calls a function with a fixed number.
    pub fn call(&mut self, helper: Helper) {
        self.push(CLASS_JMP | OP_CALL, Reg::R0, Reg::R0, 0, i32::from(helper as u8));
    }

    /// Calls a function by its place in the kernel's types.
    pub fn call_kernel(&mut self, function: Function) {
        let call = encode(CLASS_JMP | OP_CALL, 0, PSEUDO_KFUNC, 0, function.0);
        self.code.push(call);
    }

    /// Ends with the answer in R0.
    pub fn exit(&mut self) {
        self.push(CLASS_JMP | OP_EXIT, Reg::R0, Reg::R0, 0, 0);
    }

    /// The instructions, jumps resolved.
    ///
    /// # Errors
    /// [`Error::Assemble`].
    pub(crate) fn finish(mut self) -> Result<Vec<u64>> {
        for (at, label) in &self.jumps {
            let to = self.labels[label.0].ok_or(Error::Assemble("a label was never placed"))?;
            let distance = to.cast_signed() - at.cast_signed() - 1;
            let offset = i16::try_from(distance).map_err(|_| Error::Assemble("a jump is too far"))?;
            let mut bytes = self.code[*at].to_ne_bytes();
            bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
            self.code[*at] = u64::from_ne_bytes(bytes);
        }
        Ok(self.code)
    }

    fn push(&mut self, code: u8, to: Reg, from: Reg, offset: i16, number: i32) {
        self.code.push(encode(code, to as u8, from as u8, offset, number));
    }
}
