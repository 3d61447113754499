//! Out of a tunnel past its device.

use knode_bpf::Condition::{AnyBit, Equal, NotEqual, SignedLess};
use knode_bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R10};
use knode_bpf::Size::{B1, B2, B4, B8};
use knode_bpf::{Assembler, Helper, Label};

use super::wrap::{BEHIND_ETHERNET, KEEP_CHECKED, SAME_SEGMENTS};
use super::{Devices, Family, destination, ipv4_header, network_order, stack, take, within, zero};
use crate::packet::{self, frame, outer, skb};

/// `BPF_CSUM_LEVEL_DEC`
const ONE_LESS: i32 = 2;
/// Of `struct bpf_sock`.
const STATE: i16 = 72;

/// Goes on with the frame inside, in R7, if the packet is one of a tunnel of this host with IPv4 inside, else at
/// `plain`. What has met congestion goes the long way, where that is told to the packet inside (RFC 6040).
pub(super) fn look<'m>(asm: &mut Assembler<'m>, plain: Label, devices: &'m Devices) {
    asm.load(B4, R2, R6, skb::PROTOCOL);
    asm.jump_if(R2, NotEqual, network_order(packet::ETHERTYPE_IPV4), plain);
    within(asm, outer::LENGTH, plain);
    asm.load(B1, R1, R7, frame::IPV4);
    asm.jump_if(R1, NotEqual, packet::IPV4_PLAIN, plain);
    asm.load(B1, R1, R7, frame::IPV4_PROTOCOL);
    asm.jump_if(R1, NotEqual, packet::UDP, plain);
    asm.load(B2, R1, R7, frame::IPV4_FRAGMENT);
    asm.jump_if(R1, AnyBit, network_order(packet::FRAGMENT), plain);
    asm.load(B1, R1, R7, frame::IPV4_TOS);
    asm.and(R1, packet::CONGESTED);
    asm.jump_if(R1, Equal, packet::CONGESTED, plain);
    asm.load(B4, R1, R7, outer::FLAGS);
    asm.jump_if(R1, NotEqual, packet::VXLAN_FLAGS.to_be().cast_signed(), plain);
    asm.load(B2, R1, R7, outer::INNER_TYPE);
    asm.jump_if(R1, NotEqual, network_order(packet::ETHERTYPE_IPV4), plain);
    zero(asm, stack::KEY, 16);
    take(asm, frame::IPV4_ADDRESSES + 4, stack::KEY, 4);
    asm.load(B2, R1, R7, outer::PORT);
    asm.store(B2, R10, stack::KEY + 4, R1);
    take(asm, outer::VNI, stack::KEY + 8, 4);
    asm.map(R1, devices);
    asm.sum(R2, R10, i32::from(stack::KEY));
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Equal, 0, plain);
    // The device's own address, as bridge and router demand.
    for (at, size) in [(0, B4), (4, B2)] {
        asm.load(size, R1, R7, outer::INNER + at);
        asm.load(size, R2, R0, at);
        asm.jump_if_reg(R1, NotEqual, R2, plain);
    }
    asm.add(R7, i32::from(outer::INNER));
}

/// The packet inside: TCP alone, which carries a checksum of its own.
pub(super) fn inner(asm: &mut Assembler<'_>, pass: Label) {
    ipv4_header(asm, pass);
    asm.load(B1, R1, R10, stack::PROTOCOL);
    asm.jump_if(R1, NotEqual, packet::TCP, pass);
    destination(asm, Family::Ipv4);
}

/// Goes on only if a socket of the pod takes the packet. To the kernel it stays one that was wrapped
/// (`skb->encapsulation`, `SKB_GSO_UDP_TUNNEL`), which no program can undo: a pod that passed it on would have it cut
/// into segments in the wrong places.
pub(super) fn received(asm: &mut Assembler<'_>, pass: Label) {
    asm.load(B8, R4, R10, stack::NAMESPACE);
    asm.jump_if32(R4, SignedLess, 0, pass);
    asm.copy(R1, R6);
    asm.sum(R2, R10, i32::from(stack::TUPLE));
    asm.set(R3, packet::IPV4_TUPLE);
    asm.set(R5, 0);
    asm.call(Helper::TcpLookup);
    asm.jump_if(R0, Equal, 0, pass);
    asm.load(B4, R8, R0, STATE);
    asm.copy(R1, R0);
    asm.call(Helper::SocketRelease);
    asm.jump_if(R8, NotEqual, packet::ESTABLISHED, pass);
}

/// Takes the headers away. Of the checksums that hardware has checked the outer one is gone.
pub(super) fn strip(asm: &mut Assembler<'_>, pass: Label) {
    asm.copy(R1, R6);
    asm.set(R2, -i32::from(outer::INNER));
    asm.set(R3, BEHIND_ETHERNET);
    asm.set64(R4, SAME_SEGMENTS | KEEP_CHECKED);
    asm.set(R5, 0);
    asm.call(Helper::SkbAdjustRoom);
    asm.jump_if(R0, NotEqual, 0, pass);
    asm.copy(R1, R6);
    asm.set(R2, ONE_LESS);
    asm.call(Helper::ChecksumLevel);
}
