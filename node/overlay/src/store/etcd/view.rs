//! etcd's keys reduced to leases; pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::key::{Prefix, SubnetKey};
use crate::etcd::wire::event::EventType;
use crate::etcd::wire::{Event, KeyValue};
use crate::lease::{Lease, LeaseAttributes, Leases};
use crate::store::Previous;

/// A lease as etcd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// What it says, if that can be read.
    pub attributes: Option<LeaseAttributes>,
    /// When its key was made: of two that overlap the elder stands.
    pub created: i64,
    /// When it was written.
    pub revision: i64,
    /// The lease that it ends with; 0 for a reservation, which does not end.
    pub lease: i64,
}

/// All leases.
#[derive(Debug)]
pub(super) struct View {
    prefix: Prefix,
    records: BTreeMap<SubnetKey, Record>,
    /// By which this node's lease is known.
    public_ip: Option<Ipv4Addr>,
    /// The subnet that this node holds, and when it wrote so.
    held: Option<(SubnetKey, i64)>,
    complete: bool,
}

impl View {
    pub fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            records: BTreeMap::new(),
            public_ip: None,
            held: None,
            complete: false,
        }
    }

    /// Takes a list in, read at `revision`; what is newer here stays.
    pub fn list(&mut self, keys: &[KeyValue], revision: i64) {
        self.records.retain(|_, record| record.revision > revision);
        for key in keys {
            self.insert(key);
        }
        self.complete = true;
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        if event.r#type() == EventType::Put {
            self.insert(kv);
        } else if let Some(key) = self.prefix.lease(&kv.key) {
            // Of a deletion this is the revision too.
            if self
                .records
                .get(&key)
                .is_some_and(|r| r.revision < kv.mod_revision)
            {
                self.records.remove(&key);
            }
        }
    }

    fn insert(&mut self, kv: &KeyValue) {
        let Some(key) = self.prefix.lease(&kv.key) else {
            return;
        };
        if self
            .records
            .get(&key)
            .is_some_and(|r| r.revision > kv.mod_revision)
        {
            return;
        }
        let record = Record {
            attributes: attributes(&kv.value),
            created: kv.create_revision,
            revision: kv.mod_revision,
            lease: kv.lease,
        };
        self.records.insert(key, record);
    }

    /// This node wrote its lease.
    pub fn wrote(&mut self, key: SubnetKey, record: Record) {
        self.public_ip = record.attributes.as_ref().map(|a| a.public_ip);
        self.held = Some((key, record.revision));
        if self
            .records
            .get(&key)
            .is_none_or(|r| r.revision <= record.revision)
        {
            self.records.insert(key, record);
        }
    }

    /// By which address this node's lease is known.
    pub fn set_public_ip(&mut self, ip: Ipv4Addr) {
        self.public_ip = Some(ip);
    }

    pub fn held(&self) -> Option<SubnetKey> {
        self.held.map(|(key, _)| key)
    }

    /// The leases that are this node's by its address, that which it holds first; what it wrote itself is its own under
    /// an earlier address too.
    pub fn mine(&self) -> Vec<(SubnetKey, &Record)> {
        let mine = |key: &SubnetKey, record: &Record| {
            let ip = record.attributes.as_ref().map(|a| a.public_ip);
            (ip.is_some() && ip == self.public_ip) || self.held == Some((*key, record.revision))
        };
        let mut all: Vec<_> = self
            .records
            .iter()
            .filter(|(k, r)| mine(k, r))
            .map(|(k, r)| (*k, r))
            .collect();
        all.sort_by_key(|(key, _)| Some(*key) != self.held());
        all
    }

    /// An elder lease with which this one shares addresses. Keys keep two nodes from taking the same subnets, but not
    /// from taking different ones of one family with the same one of the other.
    pub fn contested(&self, key: SubnetKey) -> Option<SubnetKey> {
        let created = self.records.get(&key)?.created;
        let elder = |(other, record): &(&SubnetKey, &Record)| {
            **other != key && record.created < created && other.overlaps(&key)
        };
        self.records.iter().find(elder).map(|(other, _)| *other)
    }

    /// When a lease's key was made.
    pub fn created(&self, key: SubnetKey) -> Option<i64> {
        self.records.get(&key).map(|record| record.created)
    }

    /// This node gave its lease up.
    pub fn gave_up(&mut self, key: SubnetKey) {
        self.records.remove(&key);
        self.held = self.held.filter(|(held, _)| *held != key);
    }

    /// All subnets that somebody has, readable or not.
    pub fn taken(&self) -> Vec<SubnetKey> {
        self.records.keys().copied().collect()
    }

    /// The leases, once they are known.
    pub fn leases(&self) -> Option<Leases> {
        if !self.complete {
            return None;
        }
        let mine = self.mine();
        let lease = |key: &SubnetKey, record: &Record| {
            Some(Lease {
                subnet: key.ipv4,
                ipv6_subnet: key.ipv6,
                attributes: record.attributes.clone()?,
            })
        };
        let own = mine.first().and_then(|(key, record)| lease(key, record));
        let others = self
            .records
            .iter()
            .filter(|(key, _)| mine.iter().all(|(m, _)| m != *key));
        let peers = others.filter_map(|(key, record)| lease(key, record));
        Some(Leases {
            own,
            peers: peers.map(|l| (l.subnet, l)).collect(),
        })
    }

    /// What an earlier process of this node said in its lease.
    pub fn previous(&self) -> Previous {
        let mine = self.mine();
        let attributes = mine.first().and_then(|(_, record)| record.attributes.as_ref());
        attributes.map(Previous::of).unwrap_or_default()
    }
}

fn attributes(value: &[u8]) -> Option<LeaseAttributes> {
    LeaseAttributes::from_json(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(n: u8, ip: &str, revision: i64) -> KeyValue {
        KeyValue {
            key: format!("/n/subnets/10.0.{n}.0-24").into_bytes(),
            create_revision: revision,
            mod_revision: revision,
            value: format!(r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"host-gw"}}"#).into_bytes(),
            lease: 7,
        }
    }

    fn event(kind: EventType, kv: KeyValue) -> Event {
        Event {
            r#type: kind.into(),
            kv: Some(kv),
        }
    }

    fn view() -> View {
        let mut view = View::new(Prefix::new("/n"));
        view.set_public_ip("192.0.2.1".parse().unwrap());
        view
    }

    fn shown(view: &View) -> (Option<String>, Vec<String>) {
        let leases = view.leases().unwrap();
        let own = leases.own.map(|l| l.subnet.to_string());
        (own, leases.peers.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_is_known_before_the_list() {
        let mut view = view();
        view.apply(&event(EventType::Put, kv(1, "192.0.2.1", 3)));
        assert_eq!(view.leases(), None);
    }

    #[test]
    fn own_and_others_come_and_go() {
        let mut view = view();
        view.list(&[kv(1, "192.0.2.1", 3), kv(2, "192.0.2.2", 4)], 4);
        assert_eq!(
            shown(&view),
            (Some("10.0.1.0/24".into()), vec!["10.0.2.0/24".into()])
        );
        let mut gone = kv(1, "192.0.2.1", 5);
        gone.value.clear();
        view.apply(&event(EventType::Delete, gone));
        view.apply(&event(EventType::Put, kv(3, "192.0.2.3", 6)));
        assert_eq!(
            shown(&view),
            (None, vec!["10.0.2.0/24".into(), "10.0.3.0/24".into()])
        );
        view.list(&[kv(3, "192.0.2.3", 6)], 9);
        assert_eq!(shown(&view), (None, vec!["10.0.3.0/24".into()]));
    }

    #[test]
    fn what_was_written_here_outlives_older_news() {
        let mut view = view();
        let record = Record {
            attributes: attributes(&kv(5, "192.0.2.1", 0).value),
            created: 9,
            revision: 9,
            lease: 1,
        };
        view.wrote(SubnetKey::parse("10.0.5.0-24").unwrap(), record);
        view.list(&[kv(2, "192.0.2.2", 4)], 8);
        view.apply(&event(EventType::Delete, kv(5, "", 7)));
        assert_eq!(
            shown(&view),
            (Some("10.0.5.0/24".into()), vec!["10.0.2.0/24".into()])
        );
        view.list(&[kv(2, "192.0.2.2", 4)], 9);
        assert_eq!(shown(&view).0, None);
    }

    #[test]
    fn a_second_lease_of_ours_is_no_peer() {
        let mut view = view();
        view.list(&[kv(1, "192.0.2.1", 3), kv(2, "192.0.2.1", 4)], 4);
        assert_eq!(shown(&view), (Some("10.0.1.0/24".into()), vec![]));
    }

    #[test]
    fn unreadable_leases_are_taken_but_lead_nowhere() {
        let mut view = view();
        let mut broken = kv(4, "192.0.2.4", 3);
        broken.value = b"nonsense".to_vec();
        view.list(&[broken], 3);
        assert_eq!(shown(&view), (None, vec![]));
        assert!(view.taken().contains(&SubnetKey::parse("10.0.4.0-24").unwrap()));
    }

    #[test]
    fn of_leases_that_overlap_the_elder_stands() {
        let mut view = view();
        let key = |text: &str| SubnetKey::parse(text).unwrap();
        let (elder, younger) = (key("10.0.1.0-24&fd00:7::-64"), key("10.0.2.0-24&fd00:7::-64"));
        let other = key("10.0.3.0-24&fd00:8::-64");
        let listed = [(elder, 3), (younger, 4), (other, 5)].map(|(key, created)| KeyValue {
            key: Prefix::new("/n").subnet(key).into_bytes(),
            create_revision: created,
            // Renewed since.
            mod_revision: 10 - created,
            ..kv(1, "192.0.2.9", 0)
        });
        view.list(&listed, 9);
        assert_eq!(view.contested(younger), Some(elder));
        assert_eq!((view.contested(elder), view.contested(other)), (None, None));
    }
}
