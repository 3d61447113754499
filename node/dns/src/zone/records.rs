use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record};

use super::find::Target;
use super::prepend;

pub(super) fn address(name: &Name, ttl: u32, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// SRV records and the addresses of their targets, each once. All weigh the same (CoreDNS: `plugin.SRV`).
pub(super) fn services(
    name: &Name,
    service: &Name,
    ttl: u32,
    targets: Vec<Target>,
) -> (Vec<Record>, Vec<Record>) {
    let weight = u16::try_from((100 / targets.len().max(1)).max(1)).unwrap_or(1);
    let (mut answers, mut additionals) = (Vec::new(), Vec::new());
    let (mut hosts, mut known) = (HashSet::new(), HashSet::new());
    for Target { ip, port, label } in targets {
        let Some(port) = port else { continue };
        let host = match &label {
            Some(label) => prepend(&[label], service),
            None => service.clone(),
        };
        if known.insert((label.clone(), port)) {
            let data = SRV::new(0, weight, port.get(), host.clone());
            answers.push(Record::from_rdata(name.clone(), ttl, RData::SRV(data)));
        }
        if hosts.insert((label, ip)) {
            additionals.push(address(&host, ttl, ip));
        }
    }
    (answers, additionals)
}

/// Clients take the first address: each gets another one (CoreDNS: `loadbalance`).
pub(super) struct Shuffle(u64);

impl Shuffle {
    pub fn new(random: u64) -> Self {
        Self(random)
    }

    /// Fisher and Yates' way; the numbers need not be unpredictable.
    pub fn shuffle<T>(mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let choices = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
            let with = usize::try_from(self.next() % choices).unwrap_or(0);
            items.swap(at, with);
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
