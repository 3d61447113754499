use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::Record;

use super::Request;

/// Bytes of an address with a compressed name.
const SHORTEST_RECORD: usize = 16;

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How it went.
    pub code: ResponseCode,
    /// Whether it is the word of the zone's own server.
    pub authoritative: bool,
    /// Whether signatures were checked.
    pub authentic_data: bool,
    /// Whether something is missing already.
    pub truncated: bool,
    /// Records that answer the question.
    pub answers: Vec<Record>,
    /// Records about who knows, and how long nothing is known.
    pub authorities: Vec<Record>,
    /// Records that will be asked for next.
    pub additionals: Vec<Record>,
}

impl Reply {
    /// A code alone.
    pub fn new(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            authentic_data: false,
            truncated: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// The message, no longer than the request allows: additional records are left out first, silently; then answers,
    /// which is told (RFC 2181, section 9).
    pub fn encode(self, request: &Request) -> Vec<u8> {
        let mut message = self.message(request);
        let limit = request.limit();
        loop {
            let bytes = message.to_vec().unwrap_or_else(|error| {
                // Names that were read can be written; what an object says was a name.
                tracing::error!(error = &error as &dyn std::error::Error, "cannot write an answer");
                bare(request, ResponseCode::ServFail)
            });
            if bytes.len() <= limit {
                return bytes;
            }
            shorten(&mut message, bytes.len(), limit);
        }
    }

    fn message(self, request: &Request) -> Message {
        let mut message = Message::response(request.id, request.op_code);
        message.metadata.response_code = self.code;
        message.metadata.authoritative = self.authoritative;
        message.metadata.authentic_data = self.authentic_data;
        message.metadata.truncation = self.truncated;
        message.metadata.recursion_desired = request.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = request.checking_disabled;
        if !request.query.name().is_empty() || self.code != ResponseCode::FormErr {
            message.queries = vec![request.query.clone()];
        }
        message.answers = self.answers;
        message.authorities = self.authorities;
        message.additionals = self.additionals;
        message.edns = request.edns.as_ref().map(own_edns);
        message
    }
}

/// The client's size and wish for signatures are confirmed; options are not.
fn own_edns(client: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(client.max_payload());
    edns.set_dnssec_ok(client.flags().dnssec_ok);
    edns
}

/// Leaves out what is least needed, about as much as is too much.
fn shorten(message: &mut Message, is: usize, limit: usize) {
    if !message.additionals.is_empty() {
        message.additionals.clear();
        return;
    }
    message.metadata.truncation = true;
    if !message.authorities.is_empty() && message.answers.is_empty() {
        message.authorities.clear();
        return;
    }
    let count = message.answers.len();
    // Most names are compressed, but not those of very long messages, which tell nothing about shorter ones.
    let keep = match limit / SHORTEST_RECORD {
        most if count > most => most,
        _ => count.saturating_mul(limit) / is,
    };
    message
        .answers
        .truncate(keep.min(message.answers.len().saturating_sub(1)));
}

fn bare(request: &Request, code: ResponseCode) -> Vec<u8> {
    let mut message = Message::response(request.id, request.op_code);
    message.metadata.response_code = code;
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, RecordType};

    use super::*;
    use crate::wire::{Transport, Unreadable};

    fn question(edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("web.ns.svc.cluster.local.").expect("a name");
        message.add_query(Query::query(name, RecordType::A));
        message.metadata.recursion_desired = true;
        message.edns = edns.map(|size| {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            edns
        });
        message.to_vec().expect("a message")
    }

    fn request(edns: Option<u16>, transport: Transport) -> Request {
        Request::read(&question(edns), transport).expect("a question")
    }

    /// The answer with so many addresses.
    fn answered(request: &Request, count: u8) -> (usize, Message) {
        let name = &request.query.name;
        let address = |n| Record::from_rdata(name.clone(), 30, RData::A(A(Ipv4Addr::new(10, 0, 0, n))));
        let reply = Reply {
            answers: (0..count).map(address).collect(),
            additionals: vec![address(255)],
            ..Reply::new(ResponseCode::NoError)
        };
        let bytes = reply.encode(request);
        (bytes.len(), Message::from_vec(&bytes).expect("a message"))
    }

    #[test]
    fn an_answer_is_as_long_as_the_client_takes() {
        let (length, message) = answered(&request(None, Transport::Udp), 5);
        assert!(length < 512 && !message.metadata.truncation);
        assert_eq!((message.answers.len(), message.additionals.len()), (5, 1));
        assert_eq!((message.metadata.id, message.edns), (7, None));

        let (length, message) = answered(&request(None, Transport::Udp), 200);
        assert!(length <= 512 && message.metadata.truncation, "{length}");
        assert!(
            message.answers.len() > 27,
            "as many as fit: {}",
            message.answers.len()
        );

        let (length, message) = answered(&request(Some(4096), Transport::Udp), 100);
        assert!(length > 512 && !message.metadata.truncation, "{length}");
        assert_eq!(message.edns.map(|edns| edns.max_payload()), Some(4096));
        let (_, message) = answered(&request(None, Transport::Tcp), 200);
        assert_eq!((message.answers.len(), message.metadata.truncation), (200, false));
    }

    #[test]
    fn additional_records_go_without_a_word() {
        let fits = (0..=255).rev().find(|count| {
            let (_, message) = answered(&request(None, Transport::Udp), *count);
            !message.metadata.truncation
        });
        let (length, message) = answered(&request(None, Transport::Udp), fits.expect("some"));
        assert!(message.additionals.is_empty() && !message.metadata.truncation && length <= 512);
    }

    #[test]
    fn what_is_no_question_is_refused_by_its_code() {
        let code = |bytes: &[u8]| match Request::read(bytes, Transport::Udp) {
            Err(Unreadable::Refused(bytes, code)) => {
                let message = Message::from_vec(&bytes).expect("a message");
                // The number 16 has two names.
                let read = message.metadata.response_code;
                assert_eq!(u16::from(read), u16::from(code));
                assert_eq!(message.metadata.id, 7);
                Some(code)
            }
            Err(Unreadable::Silent) => None,
            Ok(request) => panic!("{request:?} can be answered"),
        };
        let whole = question(Some(1232));
        assert_eq!(code(&whole[..11]), None);
        assert_eq!(code(&whole[..20]), Some(ResponseCode::FormErr));
        let mut changed = whole.clone();
        changed[2] |= 0x80;
        assert_eq!(code(&changed), None, "an answer");
        let mut changed = whole.clone();
        changed[2] |= 0x28;
        assert_eq!(code(&changed), Some(ResponseCode::NotImp), "an update");
        let mut changed = question(None);
        changed[5] = 0;
        let without = changed[..12].to_vec();
        assert_eq!(code(&without), Some(ResponseCode::FormErr), "no question at all");
        let mut chaos = question(None);
        let end = chaos.len();
        chaos[end - 1] = 3;
        assert_eq!(code(&chaos), Some(ResponseCode::Refused), "class CH");
        let mut version = whole;
        let end = version.len();
        version[end - 5] = 1;
        assert_eq!(
            code(&version),
            Some(ResponseCode::BADVERS),
            "version 1 of the extensions"
        );
    }
}
