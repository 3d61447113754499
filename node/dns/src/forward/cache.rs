//! Answers of others, for as long as they are good; pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, RData, RecordType};

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The name.
    pub name: LowerName,
    /// The type.
    pub kind: RecordType,
    /// Whether signatures are wanted.
    pub signatures: bool,
    /// Whether they are to be left unchecked.
    pub unchecked: bool,
}

/// How much is kept and how long (kubeadm's Corefile: `cache 30`, CoreDNS' own lower bound and capacity).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Answers kept at most.
    pub entries: usize,
    /// Bytes of messages kept at most.
    pub bytes: usize,
    /// Seconds that an answer is kept at least, and those that tell of a failure.
    pub min_ttl: u32,
    /// Seconds that an answer is kept at most.
    pub max_ttl: u32,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: 8 << 20,
            min_ttl: 5,
            max_ttl: 30,
        }
    }
}

/// Answers that are good until they expire; those that expire first go first when there are too many.
#[derive(Debug, Default)]
pub struct Cache {
    limits: CacheLimits,
    entries: HashMap<Arc<CacheKey>, Entry>,
    /// By the time when they expire, and a number that makes the times distinct.
    order: BTreeMap<(Duration, u64), Arc<CacheKey>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    message: Box<[u8]>,
    at: (Duration, u64),
}

impl Cache {
    /// An empty one.
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// An answer and for how many seconds it is still good. `now` is a time since any fixed point.
    pub fn get(&self, key: &CacheKey, now: Duration) -> Option<(&[u8], u32)> {
        let entry = self.entries.get(key)?;
        let left = entry.at.0.checked_sub(now).filter(|left| !left.is_zero())?;
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some((&entry.message, u32::try_from(seconds).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer for so many seconds.
    pub fn put(&mut self, key: CacheKey, message: Box<[u8]>, ttl: u32, now: Duration) {
        self.remove(&key);
        let key = Arc::new(key);
        let at = (now + Duration::from_secs(ttl.into()), self.next);
        self.next += 1;
        self.bytes += message.len();
        self.order.insert(at, key.clone());
        self.entries.insert(key, Entry { message, at });
        self.make_room(now);
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The limits.
    pub fn limits(&self) -> &CacheLimits {
        &self.limits
    }

    fn make_room(&mut self, now: Duration) {
        while let Some((at, key)) = self.order.first_key_value() {
            let is_full = self.entries.len() > self.limits.entries || self.bytes > self.limits.bytes;
            if at.0 > now && !is_full {
                return;
            }
            let key = key.clone();
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.at);
            self.bytes -= entry.message.len();
        }
    }
}

/// For how many seconds an answer may be kept; `None` for those that may not (RFC 2308; CoreDNS: `cache`).
pub fn lifetime(message: &Message, limits: &CacheLimits) -> Option<u32> {
    if message.metadata.truncation {
        return None;
    }
    let sections = || {
        message
            .answers
            .iter()
            .chain(&message.authorities)
            .chain(&message.additionals)
    };
    let least = sections().map(|record| record.ttl).min();
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    });
    let ttl = match message.metadata.response_code {
        ResponseCode::ServFail => Some(limits.min_ttl),
        ResponseCode::NoError if is_answered(message) => least,
        // Without a SOA record nobody says how long nothing is there.
        ResponseCode::NoError | ResponseCode::NXDomain => {
            soa.map(|soa| least.map_or(soa, |least| least.min(soa)))
        }
        _ => None,
    };
    ttl.filter(|ttl| *ttl > 0)
        .map(|ttl| ttl.clamp(limits.min_ttl, limits.max_ttl))
}

/// Whether the chain of names ends with a record of the type that was asked for.
fn is_answered(message: &Message) -> bool {
    let Some(query) = message.queries.first() else {
        return false;
    };
    if query.query_type == RecordType::ANY {
        return !message.answers.is_empty();
    }
    let mut name = &query.name;
    // No chain is longer than its records.
    for _ in 0..=message.answers.len() {
        let mut own = message
            .answers
            .iter()
            .filter(|record| record.name == *name && record.dns_class == DNSClass::IN);
        let mut alias = None;
        let found = own.any(|record| {
            if let RData::CNAME(target) = &record.data {
                alias = Some(&target.0);
            }
            record.record_type() == query.query_type
        });
        match alias {
            _ if found => return true,
            Some(target) => name = target,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn key(text: &str) -> CacheKey {
        CacheKey {
            name: LowerName::new(&name(text)),
            kind: RecordType::A,
            signatures: false,
            unchecked: false,
        }
    }

    fn answer(code: ResponseCode, answers: &[(&str, u32, Option<&str>)], soa: Option<(u32, u32)>) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name("a.example."), RecordType::A));
        for (owner, ttl, target) in answers {
            let data = match target {
                Some(target) => RData::CNAME(CNAME(name(target))),
                None => RData::A(A(Ipv4Addr::LOCALHOST)),
            };
            message.add_answer(Record::from_rdata(name(owner), *ttl, data));
        }
        if let Some((ttl, minimum)) = soa {
            let data = SOA::new(name("ns.example."), name("h.example."), 1, 1, 1, 1, minimum);
            message.add_authority(Record::from_rdata(name("example."), ttl, RData::SOA(data)));
        }
        message
    }

    #[test]
    fn how_long_an_answer_is_kept() {
        use ResponseCode::{NXDomain, NoError, Refused, ServFail};
        let limits = CacheLimits::default();
        let of = |message: Message| lifetime(&message, &limits);
        assert_eq!(of(answer(NoError, &[("a.example.", 20, None)], None)), Some(20));
        assert_eq!(of(answer(NoError, &[("A.example.", 300, None)], None)), Some(30));
        assert_eq!(of(answer(NoError, &[("a.example.", 1, None)], None)), Some(5));
        assert_eq!(of(answer(NoError, &[("a.example.", 0, None)], None)), None);
        let chain = [("a.example.", 25, Some("b.example.")), ("b.example.", 9, None)];
        assert_eq!(of(answer(NoError, &chain, None)), Some(9));
        assert_eq!(of(answer(NoError, &chain[..1], None)), None, "leads nowhere");
        assert_eq!(of(answer(NoError, &chain[..1], Some((60, 8)))), Some(8));
        let ring = [
            ("a.example.", 25, Some("b.example.")),
            ("b.example.", 9, Some("a.example.")),
        ];
        assert_eq!(of(answer(NoError, &ring, None)), None);
        assert_eq!(of(answer(NoError, &[], None)), None);
        assert_eq!(of(answer(NoError, &[], Some((60, 10)))), Some(10));
        assert_eq!(of(answer(NXDomain, &[], Some((12, 900)))), Some(12));
        assert_eq!(of(answer(NXDomain, &[], None)), None);
        assert_eq!(of(answer(ServFail, &[], None)), Some(5));
        assert_eq!(of(answer(Refused, &[], Some((60, 60)))), None);
        let mut cut = answer(NoError, &[("a.example.", 20, None)], None);
        cut.metadata.truncation = true;
        assert_eq!(of(cut), None);
    }

    #[test]
    fn answers_expire_and_the_oldest_go_first() {
        let limits = CacheLimits {
            entries: 2,
            bytes: 100,
            ..CacheLimits::default()
        };
        let mut cache = Cache::new(limits);
        cache.put(key("a."), vec![0; 10].into(), 10, SECOND);
        cache.put(key("b."), vec![1; 10].into(), 5, SECOND);
        assert_eq!(cache.get(&key("A."), SECOND), Some((&[0; 10][..], 10)));
        assert_eq!(
            cache.get(&key("b."), SECOND * 5 + SECOND / 2),
            Some((&[1; 10][..], 1))
        );
        assert_eq!(cache.get(&key("b."), SECOND * 6), None);
        cache.put(key("c."), vec![2; 10].into(), 20, SECOND);
        assert_eq!(cache.get(&key("b."), SECOND), None, "it expires first");
        assert_eq!((cache.len(), cache.bytes), (2, 20));
        cache.put(key("c."), vec![3; 95].into(), 30, SECOND);
        assert_eq!((cache.len(), cache.bytes), (1, 95), "bytes count too");
        cache.put(key("d."), vec![4; 1].into(), 5, SECOND * 40);
        assert_eq!((cache.len(), cache.bytes), (1, 1), "the expired ones are gone");
        cache.put(key("e."), vec![5; 101].into(), 5, SECOND * 40);
        assert!(cache.is_empty(), "nothing is kept that is too large alone");
    }
}
