use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;

use super::Reply;

/// Length of a message's header.
const HEADER: usize = 12;
/// What every client takes (RFC 1035).
const SMALLEST: u16 = 512;
/// More is not sent in a datagram, whatever the client takes.
const LARGEST: u16 = 4096;

/// How a request came; it decides how long the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// The client's number for it.
    pub id: u16,
    /// What is to be done: a query, unless it is refused.
    pub op_code: OpCode,
    /// What is asked: of class IN.
    pub query: Query,
    /// Whether others may be asked.
    pub recursion_desired: bool,
    /// Whether the client checks signatures itself.
    pub checking_disabled: bool,
    /// Whether the client wants to know of checked signatures.
    pub authentic_data: bool,
    /// The client's extensions.
    pub edns: Option<Edns>,
    /// How it came.
    pub transport: Transport,
}

/// Why there is no question to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not even an error is due: no header, or an answer.
    Silent,
    /// This is sent back, with its code.
    Refused(Vec<u8>, ResponseCode),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unreadable`] for what is no question.
    pub fn read(bytes: &[u8], transport: Transport) -> Result<Self, Unreadable> {
        if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
            return Err(Unreadable::Silent);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return Err(refused(&unread(bytes), ResponseCode::FormErr));
        };
        let Message {
            metadata,
            queries,
            edns,
            ..
        } = message;
        if metadata.message_type != MessageType::Query {
            return Err(Unreadable::Silent);
        }
        let [query] = queries.as_slice() else {
            return Err(refused(&unread(bytes), ResponseCode::FormErr));
        };
        let request = Self {
            id: metadata.id,
            op_code: metadata.op_code,
            query: query.clone(),
            recursion_desired: metadata.recursion_desired,
            checking_disabled: metadata.checking_disabled,
            authentic_data: metadata.authentic_data,
            edns,
            transport,
        };
        if metadata.op_code != OpCode::Query {
            return Err(refused(&request, ResponseCode::NotImp));
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(refused(&request, ResponseCode::BADVERS));
        }
        if request.query.query_class != DNSClass::IN {
            return Err(refused(&request, ResponseCode::Refused));
        }
        Ok(request)
    }

    /// How many bytes the answer may have.
    pub fn limit(&self) -> usize {
        let size = match (self.transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => SMALLEST,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(SMALLEST, LARGEST),
        };
        usize::from(size)
    }

    /// Whether the client wants signatures.
    pub fn wants_signatures(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }
}

fn refused(request: &Request, code: ResponseCode) -> Unreadable {
    Unreadable::Refused(Reply::new(code).encode(request), code)
}

/// What can be said of a message whose rest cannot be read.
fn unread(bytes: &[u8]) -> Request {
    Request {
        id: u16::from_be_bytes([bytes[0], bytes[1]]),
        op_code: OpCode::from_u8((bytes[2] >> 3) & 0xF),
        query: Query::default(),
        recursion_desired: bytes[2] & 1 != 0,
        checking_disabled: false,
        authentic_data: false,
        edns: None,
        transport: Transport::Udp,
    }
}
