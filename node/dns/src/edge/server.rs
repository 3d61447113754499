use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::time::Instant;

use crate::forward::{ForwardError, Forwarder};
use crate::metrics::{Metrics, Plugin};
use crate::model::Model;
use crate::wire::{Reply, Request, Transport, Unreadable};
use crate::zone::{Answer, Zone};

/// The model, changed by one and read by many.
pub type SharedModel = Arc<RwLock<Model>>;

/// Answers questions, whatever way they come.
#[derive(Debug)]
pub struct Server {
    zone: Zone,
    model: SharedModel,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) metrics: Arc<Metrics>,
    /// Before the first lists are complete nothing is said about the cluster.
    synced: AtomicBool,
}

/// What is to be done about a message.
pub(super) enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// Others have to be asked.
    Ask(Box<Ask>),
    /// Nothing.
    Silence,
}

/// A question that others have to be asked about.
pub(super) struct Ask {
    request: Request,
    query: Query,
    /// What leads from the client's question to that one.
    chain: Vec<Record>,
    began: Instant,
}

impl Server {
    /// Answers from `model` about `zone`, and by `forwarder` about everything else. `synced`: whether the model is
    /// complete from the start.
    pub fn new(zone: Zone, model: SharedModel, forwarder: Arc<Forwarder>, synced: bool) -> Self {
        Self::counted(zone, model, forwarder, Arc::default(), synced)
    }

    pub(super) fn counted(
        zone: Zone,
        model: SharedModel,
        forwarder: Arc<Forwarder>,
        metrics: Arc<Metrics>,
        synced: bool,
    ) -> Self {
        let synced = AtomicBool::new(synced);
        Self {
            zone,
            model,
            forwarder,
            metrics,
            synced,
        }
    }

    /// The first lists are complete.
    pub(super) fn is_synced_now(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// Whether the first lists are complete.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// Looks at a message and answers it if no one else has to be asked.
    pub(super) fn step(&self, bytes: &[u8], transport: Transport, client: SocketAddr) -> Step {
        let began = Instant::now();
        let request = match Request::read(bytes, transport) {
            Ok(request) => request,
            Err(Unreadable::Silent) => return Step::Silence,
            Err(Unreadable::Refused(bytes, code)) => {
                self.metrics.response(code, Plugin::None, began.elapsed());
                return Step::Reply(bytes);
            }
        };
        self.metrics.request(transport, client, request.query.query_type);
        let (name, kind) = (&request.query.name, request.query.query_type);
        if kind == RecordType::HINFO && self.forwarder.is_own_probe(name) {
            return self.reply(&request, Reply::new(ResponseCode::Refused), Plugin::None, began);
        }
        match self.look_up(name, kind) {
            Found::Reply(reply) => self.reply(&request, reply, Plugin::Kubernetes, began),
            Found::Elsewhere(chain, query) => Step::Ask(Box::new(Ask {
                query: query.unwrap_or_else(|| request.query.clone()),
                request,
                chain,
                began,
            })),
        }
    }

    fn look_up(&self, name: &Name, kind: RecordType) -> Found {
        if !self.is_synced() && self.zone.contains(name) {
            return Found::Reply(Reply::new(ResponseCode::ServFail));
        }
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        let own = |code, answers, additionals| Reply {
            authoritative: true,
            answers,
            additionals,
            ..Reply::new(code)
        };
        let nothing = |code| Reply {
            authorities: vec![self.zone.soa(&model)],
            ..own(code, Vec::new(), Vec::new())
        };
        match self.zone.answer(&model, name, kind, rand::random()) {
            Answer::Records { answers, additionals } => {
                Found::Reply(own(ResponseCode::NoError, answers, additionals))
            }
            Answer::NoData => Found::Reply(nothing(ResponseCode::NoError)),
            Answer::NoName => Found::Reply(nothing(ResponseCode::NXDomain)),
            Answer::Refused => Found::Reply(Reply::new(ResponseCode::Refused)),
            Answer::Alias { answers, target } => Found::Elsewhere(answers, Some(Query::query(target, kind))),
            Answer::Elsewhere => Found::Elsewhere(Vec::new(), None),
        }
    }

    /// Asks others.
    pub(super) async fn ask(&self, ask: Box<Ask>) -> Vec<u8> {
        let Ask {
            request,
            query,
            chain,
            began,
        } = *ask;
        let told = self.forwarder.resolve(&request, &query).await;
        let (reply, plugin) = match told {
            Ok(message) if chain.is_empty() => (passed_on(message), Plugin::Forward),
            Ok(message) => (completed(chain, message), Plugin::Kubernetes),
            Err(ForwardError::TooMany) => (Reply::new(ResponseCode::Refused), Plugin::Forward),
            Err(error @ (ForwardError::NoServer | ForwardError::Unanswered)) => {
                tracing::debug!(%error, name = %query.name, "cannot be forwarded");
                (Reply::new(ResponseCode::ServFail), Plugin::Forward)
            }
        };
        self.metrics.response(reply.code, plugin, began.elapsed());
        reply.encode(&request)
    }

    fn reply(&self, request: &Request, reply: Reply, plugin: Plugin, began: Instant) -> Step {
        let code = reply.code;
        let bytes = reply.encode(request);
        self.metrics.response(code, plugin, began.elapsed());
        Step::Reply(bytes)
    }
}

enum Found {
    Reply(Reply),
    /// What was found on the way, and what is to be asked if not what the client asked.
    Elsewhere(Vec<Record>, Option<Query>),
}

fn passed_on(message: Message) -> Reply {
    Reply {
        authoritative: message.metadata.authoritative,
        authentic_data: message.metadata.authentic_data,
        truncated: message.metadata.truncation,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
        ..Reply::new(message.metadata.response_code)
    }
}

/// A Service that stands for a name elsewhere. What others say of that name is no failure of the Service's (CoreDNS).
fn completed(chain: Vec<Record>, message: Message) -> Reply {
    let code = match message.metadata.response_code {
        ResponseCode::NXDomain => ResponseCode::NoError,
        code => code,
    };
    let mut answers = chain;
    answers.extend(message.answers);
    Reply {
        authoritative: true,
        truncated: message.metadata.truncation,
        answers,
        ..Reply::new(code)
    }
}
