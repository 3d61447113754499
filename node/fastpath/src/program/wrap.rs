//! Into a tunnel past its device: the headers of a VXLAN in IPv4 (RFC 7348) around a packet.

use knode_bpf::Condition::{Equal, Greater, NotEqual};
use knode_bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use knode_bpf::Size::{B1, B2, B4, B8};
use knode_bpf::{Assembler, Helper};

use super::{Peers, drop_packet, network_order, stack, zero};
use crate::packet::{self, WAY_OUT, WRAPPING, frame, outer, skb};

/// Room is made behind the Ethernet header (`BPF_ADJ_ROOM_MAC`).
pub(super) const BEHIND_ETHERNET: i32 = 1;
/// What is cut into segments later is cut as small as before (`BPF_F_ADJ_ROOM_FIXED_GSO`).
pub(super) const SAME_SEGMENTS: u64 = 1 << 0;
/// What the hardware has checked stays so (`BPF_F_ADJ_ROOM_NO_CSUM_RESET`).
pub(super) const KEEP_CHECKED: u64 = 1 << 5;
/// `BPF_F_ADJ_ROOM_ENCAP_L3_IPV4`, `_L4_UDP`, `_L2_ETH` with the length of an Ethernet header.
const AROUND: u64 = 1 << 1 | 1 << 4 | 1 << 6 | 14 << 56;

/// Wraps and sends an IPv4 packet whose way leads through a tunnel to a known peer. Others go on.
///
/// As the kernel's device does by default: no checksum is needed in UDP's header, which is an addition of ours to save
/// it from being checked; may be cut on the way; congestion is told inside to outside (RFC 6040).
pub(super) fn wrap<'m>(asm: &mut Assembler<'m>, peers: &'m Peers) {
    let (plain, lost) = (asm.label(), asm.label());
    asm.jump_if(R8, NotEqual, packet::IPV4_TUPLE, plain);
    zero(asm, stack::KEY, 16);
    asm.load(B8, R1, R10, stack::INTERFACE);
    asm.store(B4, R10, stack::KEY, R1);
    asm.load(B4, R1, R10, stack::MACS);
    asm.store(B4, R10, stack::KEY + 4, R1);
    asm.load(B2, R1, R10, stack::MACS + 4);
    asm.store(B2, R10, stack::KEY + 8, R1);
    asm.map(R1, peers);
    asm.sum(R2, R10, i32::from(stack::KEY));
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Equal, 0, plain);
    asm.copy(R9, R0);
    asm.load(B1, R8, R7, frame::IPV4_TOS);
    asm.load(B4, R7, R6, skb::LENGTH);
    asm.jump_if(R7, Greater, i32::from(u16::MAX) - ip_overhead(), plain);
    headers(asm);
    make_room(asm);
    asm.jump_if(R0, NotEqual, 0, plain);
    asm.copy(R1, R6);
    asm.set(R2, 0);
    asm.sum(R3, R10, i32::from(stack::OUTER));
    asm.set(R4, i32::from(outer::LENGTH));
    asm.set(R5, 0);
    asm.call(Helper::SkbStoreBytes);
    asm.jump_if(R0, NotEqual, 0, lost);
    asm.load(B4, R1, R9, WAY_OUT);
    asm.set(R2, 0);
    asm.set(R3, 0);
    asm.set(R4, 0);
    asm.call(Helper::RedirectNeighbour);
    asm.exit();
    drop_packet(asm, lost);
    asm.place(plain);
}

/// What a frame's length lacks to the length of the IPv4 packet around it.
fn ip_overhead() -> i32 {
    i32::from(outer::INNER - frame::IPV4)
}

/// All headers, on the stack. R7 is the frame's length, R8 the type of service inside, R9 the peer's wrapping.
fn headers(asm: &mut Assembler<'_>) {
    for at in (0..WRAPPING as i16 - 4).step_by(4) {
        asm.load(B4, R1, R9, at);
        asm.store(B4, R10, stack::OUTER + at, R1);
    }
    let kept = asm.label();
    asm.and(R8, packet::CONGESTED);
    asm.jump_if(R8, NotEqual, packet::CONGESTED, kept);
    asm.set(R8, packet::MAY_SAY);
    asm.place(kept);
    asm.store(B1, R10, stack::OUTER + frame::IPV4_TOS, R8);
    asm.sum(R1, R7, ip_overhead());
    asm.to_network16(R1);
    asm.store(B2, R10, stack::OUTER + frame::IPV4_LENGTH, R1);
    asm.sum(R1, R7, i32::from(outer::INNER - outer::SOURCE_PORT));
    asm.to_network16(R1);
    asm.store(B2, R10, stack::OUTER + outer::UDP_LENGTH, R1);
    asm.call(Helper::Random);
    asm.store(B2, R10, stack::OUTER + frame::IPV4_ID, R0);
    asm.copy(R1, R6);
    asm.call(Helper::FlowHash);
    asm.shift_right(R0, packet::HASH_SHIFT);
    asm.add(R0, packet::FIRST_PORT);
    asm.to_network16(R0);
    asm.store(B2, R10, stack::OUTER + outer::SOURCE_PORT, R0);
    checksum(asm);
    for at in (0..12).step_by(2) {
        asm.load(B2, R1, R10, stack::MACS + at);
        asm.store(B2, R10, stack::OUTER + outer::INNER + at, R1);
    }
    asm.set(R1, network_order(packet::ETHERTYPE_IPV4));
    asm.store(B2, R10, stack::OUTER + outer::INNER_TYPE, R1);
}

/// Of the IPv4 header (RFC 1071), whose field is zero so far.
fn checksum(asm: &mut Assembler<'_>) {
    asm.set(R1, 0);
    asm.set(R2, 0);
    asm.sum(R3, R10, i32::from(stack::OUTER + frame::IPV4));
    asm.set(R4, i32::from(outer::SOURCE_PORT - frame::IPV4));
    asm.set(R5, 0);
    asm.call(Helper::ChecksumDifference);
    for _ in 0..2 {
        asm.copy(R1, R0);
        asm.shift_right(R1, 16);
        asm.and(R0, 0xffff);
        asm.add_reg(R0, R1);
    }
    asm.xor(R0, 0xffff);
    asm.store(B2, R10, stack::OUTER + frame::IPV4_CHECKSUM, R0);
}

fn make_room(asm: &mut Assembler<'_>) {
    asm.copy(R1, R6);
    asm.set(R2, i32::from(outer::INNER));
    asm.set(R3, BEHIND_ETHERNET);
    asm.set64(R4, SAME_SEGMENTS | KEEP_CHECKED | AROUND);
    asm.set(R5, 0);
    asm.call(Helper::SkbAdjustRoom);
}
