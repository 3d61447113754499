//! The two programs: one for what comes out of a pod, one for what comes from other hosts. To be used under the MIT
//! licence or the GPL, version 2, as the kernel's functions for connection tracking demand.

mod unwrap;
mod wrap;

use knode_bpf::Condition::{AnyBit, Equal, Greater, Less, NotEqual, SignedLess};
use knode_bpf::Reg::{self, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use knode_bpf::Size::{B1, B2, B4, B8};
use knode_bpf::{Assembler, Btf, Function, HashMap, Helper, Label};

use crate::conntrack::Trust;
use crate::packet::{self, CABLE, DEVICE, ENDPOINT, PEER, STATION, WRAPPING, frame, skb, status};

/// Pods of this node by address.
pub(crate) type Pods = HashMap<16, CABLE>;

/// Wrappings by device and station behind it.
pub(crate) type Peers = HashMap<PEER, WRAPPING>;
/// Devices of this node that unwrap, by where wrapped packets arrive.
pub(crate) type Devices = HashMap<ENDPOINT, DEVICE>;

/// The next program at the interface is asked, in the end the kernel.
const NEXT: i32 = -1;

/// The stack, from its end.
mod stack {
    /// Addresses and ports (`struct bpf_sock_tuple`).
    pub const TUPLE: i16 = -40;
    /// `struct bpf_ct_opts`, as it was at first.
    pub const OPTIONS: i16 = -56;
    pub const OPTIONS_LENGTH: i32 = 12;
    pub const PROTOCOL: i16 = OPTIONS + 8;
    /// A key of the map of pods.
    pub const KEY: i16 = -72;
    /// The Ethernet header's addresses to come.
    pub const MACS: i16 = -88;
    pub const MACS_LENGTH: i32 = 12;
    pub const STATUS: i16 = -96;
    pub const TIMEOUT: i16 = -104;
    pub const INTERFACE: i16 = -112;
    /// `struct bpf_fib_lookup`
    pub const ROUTE: i16 = -176;
    pub const ROUTE_LENGTH: i32 = 64;
    pub const ROUTE_INTERFACE: i16 = ROUTE + 8;
    pub const ROUTE_SOURCE: i16 = ROUTE + 16;
    pub const ROUTE_DESTINATION: i16 = ROUTE + 32;
    pub const ROUTE_SMAC: i16 = ROUTE + 52;
    pub const ROUTE_DMAC: i16 = ROUTE + 58;
    pub const LENGTH: i16 = -184;
    /// The pod's namespace, by the host's number for it.
    pub const NAMESPACE: i16 = -192;
    /// Headers around a packet.
    pub const OUTER: i16 = -256;
}

/// What the running kernel calls things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    lookup: Function,
    release: Function,
    status: i16,
    timeout: i16,
}

impl Kernel {
    pub(crate) fn running() -> knode_bpf::Result<Self> {
        let types = Btf::kernel()?;
        Ok(Self {
            lookup: types.function("bpf_skb_ct_lookup")?,
            release: types.function("bpf_ct_release")?,
            status: types.offset("nf_conn", "status")?,
            timeout: types.offset("nf_conn", "timeout")?,
        })
    }
}

/// What comes out of a pod's cable: out of the interface that the routing table says, past the bridge and forwarding;
/// where that is a tunnel's device with a known peer, past it too, wrapped here.
/// `bridge`: the interface by which the kernel sees the packet come in, and what leads to pods of this node.
pub(crate) fn from_pod(kernel: Kernel, trust: Trust, bridge: i32, peers: &Peers) -> Assembler<'_> {
    let mut asm = Assembler::new();
    let pass = asm.label();
    begin(&mut asm);
    parse(&mut asm, pass, |asm, family| route_request(asm, family, bridge));
    tracked(&mut asm, pass, kernel, trust);
    route(&mut asm, pass, bridge);
    fits(&mut asm, pass);
    wrap::wrap(&mut asm, peers);
    redirect(&mut asm, pass, Helper::Redirect);
    end(asm, pass)
}

/// What comes in by an interface of the host for one of its pods, wrapped or not: into the pod's namespace, past the
/// tunnel's device, forwarding, bridge and cable.
pub(crate) fn to_pod<'m>(
    kernel: Kernel,
    trust: Trust,
    pods: &'m Pods,
    devices: &'m Devices,
) -> Assembler<'m> {
    let mut asm = Assembler::new();
    let (plain, pass) = (asm.label(), asm.label());
    begin(&mut asm);
    // To this host, not overheard.
    asm.load(B4, R1, R6, skb::PACKET_TYPE);
    asm.jump_if(R1, NotEqual, packet::TO_US, pass);
    unwrap::look(&mut asm, plain, devices);
    unwrap::inner(&mut asm, pass);
    pod(&mut asm, pass, pods);
    tracked(&mut asm, pass, kernel, trust);
    unwrap::received(&mut asm, pass);
    unwrap::strip(&mut asm, pass);
    let lost = asm.label();
    redirect(&mut asm, lost, Helper::RedirectPeer);
    drop_packet(&mut asm, lost);
    asm.place(plain);
    parse(&mut asm, pass, destination);
    pod(&mut asm, pass, pods);
    tracked(&mut asm, pass, kernel, trust);
    redirect(&mut asm, pass, Helper::RedirectPeer);
    end(asm, pass)
}

/// Of a packet that can no longer go the long way. It takes a machine without memory.
fn drop_packet(asm: &mut Assembler<'_>, lost: Label) {
    asm.place(lost);
    asm.set(R0, packet::DROP);
    asm.exit();
}

fn end(mut asm: Assembler<'_>, pass: Label) -> Assembler<'_> {
    asm.place(pass);
    asm.set(R0, NEXT);
    asm.exit();
    asm
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

/// Leaves the context in R6, the packet in R7 and its end in R9.
fn begin(asm: &mut Assembler<'_>) {
    zero(asm, stack::TUPLE, 40);
    zero(asm, stack::OPTIONS, 16);
    asm.copy(R6, R1);
    asm.load(B4, R7, R6, skb::DATA);
    asm.load(B4, R9, R6, skb::DATA_END);
}

/// Leaves the length of the tuple in R8.
fn parse(asm: &mut Assembler<'_>, pass: Label, also: impl Fn(&mut Assembler<'_>, Family)) {
    let (ipv6, parsed) = (asm.label(), asm.label());
    asm.load(B4, R2, R6, skb::PROTOCOL);
    asm.jump_if(R2, Equal, network_order(packet::ETHERTYPE_IPV6), ipv6);
    asm.jump_if(R2, NotEqual, network_order(packet::ETHERTYPE_IPV4), pass);
    ipv4_header(asm, pass);
    also(asm, Family::Ipv4);
    asm.jump(parsed);
    asm.place(ipv6);
    ipv6_header(asm, pass);
    also(asm, Family::Ipv6);
    asm.place(parsed);
}

fn ipv4_header(asm: &mut Assembler<'_>, pass: Label) {
    within(asm, frame::IPV4_PORTS + frame::TCP, pass);
    asm.load(B1, R1, R7, frame::IPV4);
    asm.jump_if(R1, NotEqual, packet::IPV4_PLAIN, pass);
    asm.load(B2, R1, R7, frame::IPV4_FRAGMENT);
    asm.jump_if(R1, AnyBit, network_order(packet::FRAGMENT), pass);
    asm.load(B1, R1, R7, frame::IPV4_TTL);
    asm.jump_if(R1, Less, 2, pass);
    transport(asm, frame::IPV4_PROTOCOL, frame::IPV4_PORTS, pass);
    take(asm, frame::IPV4_ADDRESSES, stack::TUPLE, 8);
    take(asm, frame::IPV4_PORTS, stack::TUPLE + 8, 4);
    asm.set(R8, packet::IPV4_TUPLE);
}

fn ipv6_header(asm: &mut Assembler<'_>, pass: Label) {
    within(asm, frame::IPV6_PORTS + frame::TCP, pass);
    asm.load(B1, R1, R7, frame::IPV6_HOPS);
    asm.jump_if(R1, Less, 2, pass);
    transport(asm, frame::IPV6_PROTOCOL, frame::IPV6_PORTS, pass);
    take(asm, frame::IPV6_ADDRESSES, stack::TUPLE, 32);
    take(asm, frame::IPV6_PORTS, stack::TUPLE + 32, 4);
    asm.set(R8, 36);
}

/// The packet reaches so far in memory, or it goes the long way.
fn within(asm: &mut Assembler<'_>, length: i16, pass: Label) {
    asm.sum(R1, R7, i32::from(length));
    asm.jump_if_reg(R1, Greater, R9, pass);
}

/// TCP in the middle of a connection, or UDP.
fn transport(asm: &mut Assembler<'_>, protocol: i16, ports: i16, pass: Label) {
    let known = asm.label();
    asm.load(B1, R3, R7, protocol);
    asm.store(B1, R10, stack::PROTOCOL, R3);
    asm.jump_if(R3, Equal, packet::UDP, known);
    asm.jump_if(R3, NotEqual, packet::TCP, pass);
    asm.load(B1, R1, R7, ports + frame::TCP_FLAGS);
    asm.jump_if(R1, AnyBit, packet::TCP_TURNS, pass);
    asm.place(known);
}

/// The key of the packet's destination.
fn destination(asm: &mut Assembler<'_>, family: Family) {
    match family {
        Family::Ipv4 => {
            zero(asm, stack::KEY, 8);
            asm.set(R1, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
            asm.store(B4, R10, stack::KEY + 8, R1);
            move_in_stack(asm, stack::TUPLE + 4, stack::KEY + 12, 4);
        }
        Family::Ipv6 => move_in_stack(asm, stack::TUPLE + 16, stack::KEY, 16),
    }
}

/// The cable of the pod whose key is on the stack.
fn pod<'m>(asm: &mut Assembler<'m>, pass: Label, pods: &'m Pods) {
    asm.map(R1, pods);
    asm.sum(R2, R10, i32::from(stack::KEY));
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Equal, 0, pass);
    asm.load(B4, R1, R0, 0);
    asm.store(B8, R10, stack::INTERFACE, R1);
    for at in [0, 4, 8] {
        asm.load(B4, R1, R0, 4 + at);
        asm.store(B4, R10, stack::MACS + at, R1);
    }
    asm.load(B4, R1, R0, STATION);
    asm.store(B8, R10, stack::NAMESPACE, R1);
}

/// Goes on only where connection tracking knows the connection well enough.
fn tracked(asm: &mut Assembler<'_>, pass: Label, kernel: Kernel, trust: Trust) {
    let (udp, trusted) = (asm.label(), asm.label());
    // Of the packet's own namespace.
    asm.set(R1, -1);
    asm.store(B4, R10, stack::OPTIONS, R1);
    asm.copy(R1, R6);
    asm.sum(R2, R10, i32::from(stack::TUPLE));
    asm.copy(R3, R8);
    asm.sum(R4, R10, i32::from(stack::OPTIONS));
    asm.set(R5, stack::OPTIONS_LENGTH);
    asm.call_kernel(kernel.lookup);
    asm.jump_if(R0, Equal, 0, pass);
    asm.load(B8, R1, R0, kernel.status);
    asm.store(B8, R10, stack::STATUS, R1);
    asm.load(B4, R1, R0, kernel.timeout);
    asm.store(B8, R10, stack::TIMEOUT, R1);
    asm.copy(R1, R0);
    asm.call_kernel(kernel.release);
    asm.load(B8, R1, R10, stack::STATUS);
    asm.jump_if(R1, AnyBit, status::ATTENDED, pass);
    asm.and(R1, status::ASSURED);
    asm.jump_if(R1, Equal, 0, pass);
    asm.call(Helper::Jiffies64);
    asm.load(B8, R1, R10, stack::TIMEOUT);
    asm.subtract32(R1, R0);
    asm.load(B1, R2, R10, stack::PROTOCOL);
    asm.jump_if(R2, Equal, packet::UDP, udp);
    asm.jump_if32(R1, SignedLess, trust.tcp.cast_signed(), pass);
    asm.jump(trusted);
    asm.place(udp);
    asm.jump_if32(R1, SignedLess, trust.udp.cast_signed(), pass);
    asm.place(trusted);
}

/// The question for the routing table, as forwarding would ask it.
fn route_request(asm: &mut Assembler<'_>, family: Family, bridge: i32) {
    zero(asm, stack::ROUTE, 64);
    let (number, address) = match family {
        Family::Ipv4 => (packet::AF_INET, 4),
        Family::Ipv6 => (packet::AF_INET6, 16),
    };
    asm.set(R1, number);
    asm.store(B1, R10, stack::ROUTE, R1);
    asm.load(B1, R1, R10, stack::PROTOCOL);
    asm.store(B1, R10, stack::ROUTE + 1, R1);
    asm.set(R1, bridge);
    asm.store(B4, R10, stack::ROUTE_INTERFACE, R1);
    move_in_stack(asm, stack::TUPLE, stack::ROUTE_SOURCE, address);
    move_in_stack(asm, stack::TUPLE + address, stack::ROUTE_DESTINATION, address);
}

/// Asks it. Pods of this node are the bridge's.
fn route(asm: &mut Assembler<'_>, pass: Label, bridge: i32) {
    asm.copy(R1, R6);
    asm.sum(R2, R10, i32::from(stack::ROUTE));
    asm.set(R3, stack::ROUTE_LENGTH);
    asm.set(R4, 0);
    asm.call(Helper::FibLookup);
    asm.jump_if(R0, NotEqual, 0, pass);
    asm.load(B4, R1, R10, stack::ROUTE_INTERFACE);
    asm.jump_if(R1, Equal, bridge, pass);
    asm.store(B8, R10, stack::INTERFACE, R1);
    for at in [0, 2, 4] {
        asm.load(B2, R1, R10, stack::ROUTE_DMAC + at);
        asm.store(B2, R10, stack::MACS + at, R1);
        asm.load(B2, R1, R10, stack::ROUTE_SMAC + at);
        asm.store(B2, R10, stack::MACS + 6 + at, R1);
    }
}

/// What has become too large for the interface goes the long way, where its sender is told so.
fn fits(asm: &mut Assembler<'_>, pass: Label) {
    // By the packet's own length.
    asm.set(R0, 0);
    asm.store(B4, R10, stack::LENGTH, R0);
    asm.copy(R1, R6);
    asm.load(B8, R2, R10, stack::INTERFACE);
    asm.sum(R3, R10, i32::from(stack::LENGTH));
    asm.set(R4, 0);
    asm.set(R5, packet::EACH_SEGMENT);
    asm.call(Helper::CheckMtu);
    asm.jump_if(R0, NotEqual, 0, pass);
}

/// Writes the Ethernet addresses and hands the packet over; where they can't be written, goes on at `otherwise`.
fn redirect(asm: &mut Assembler<'_>, otherwise: Label, how: Helper) {
    asm.copy(R1, R6);
    asm.set(R2, 0);
    asm.sum(R3, R10, i32::from(stack::MACS));
    asm.set(R4, stack::MACS_LENGTH);
    asm.set(R5, 0);
    asm.call(Helper::SkbStoreBytes);
    asm.jump_if(R0, NotEqual, 0, otherwise);
    asm.load(B8, R1, R10, stack::INTERFACE);
    asm.set(R2, 0);
    asm.call(how);
    asm.exit();
}

fn zero(asm: &mut Assembler<'_>, at: i16, length: i16) {
    asm.set(R0, 0);
    for offset in (0..length).step_by(8) {
        asm.store(B8, R10, at + offset, R0);
    }
}

/// Packet to stack, words of four bytes.
fn take(asm: &mut Assembler<'_>, from: i16, to: i16, length: i16) {
    words(asm, R7, from, to, length);
}

fn move_in_stack(asm: &mut Assembler<'_>, from: i16, to: i16, length: i16) {
    words(asm, R10, from, to, length);
}

fn words(asm: &mut Assembler<'_>, base: Reg, from: i16, to: i16, length: i16) {
    for offset in (0..length).step_by(4) {
        asm.load(B4, R1, base, from + offset);
        asm.store(B4, R10, to + offset, R1);
    }
}

/// Two bytes of a packet as a register holds them.
fn network_order(number: u16) -> i32 {
    i32::from(number.to_be())
}
