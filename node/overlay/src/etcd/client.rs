use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::connect::{Access, Member, members};
use super::error::EtcdError;
use super::range_end;
use super::watch::Watcher;
use super::wire::auth_client::AuthClient;
use super::wire::compare::{CompareTarget, TargetUnion};
use super::wire::kv_client::KvClient;
use super::wire::lease_client::LeaseClient;
use super::wire::request_op::Request as Op;
use super::wire::watch_client::WatchClient;
use super::wire::{
    AuthenticateRequest, Compare, DeleteRangeRequest, KeyValue, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A member that does not answer to this is passed over.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// etcd, through whichever of its members answers. Clones share the connection.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    members: Vec<Member>,
    link: Mutex<Link>,
}

/// The connection in use.
#[derive(Default)]
struct Link {
    /// Which member is tried first.
    member: usize,
    session: Option<Session>,
    /// Tells sessions apart.
    count: u64,
}

/// A connection, logged in.
#[derive(Clone)]
struct Session {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    endpoint: String,
    count: u64,
}

/// What a key must be like for a write to happen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// It does not exist.
    Absent,
    /// Nobody has written it since this revision.
    Unchanged(i64),
}

impl Etcd {
    /// Checks the endpoints; connects at the first question.
    ///
    /// # Errors
    /// [`EtcdError::Endpoint`], [`EtcdError::NoEndpoint`].
    pub fn new(access: Access) -> Result<Self, EtcdError> {
        let shared = Shared {
            members: members(&access.endpoints)?,
            access,
            link: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// A key's value, if it has one.
    ///
    /// # Errors
    /// Any member's last refusal.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, EtcdError> {
        let request = RangeRequest {
            key: key.into(),
            range_end: Vec::new(),
        };
        let answer = self.range(request).await?;
        Ok(answer.0.into_iter().next().map(|kv| kv.value))
    }

    /// Writes a key that nobody leases.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put(&self, key: &str, value: &str) -> Result<(), EtcdError> {
        let put = PutRequest {
            key: key.into(),
            value: value.into(),
            lease: 0,
        };
        let ask = |session: Session| {
            let request = session.request(put.clone());
            async move { KvClient::new(session.channel).put(request).await }
        };
        self.ask("write", ask).await.map(drop)
    }

    /// Removes a key; none is no error.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, key: &str) -> Result<(), EtcdError> {
        let delete = DeleteRangeRequest { key: key.into() };
        let ask = |session: Session| {
            let request = session.request(delete.clone());
            async move { KvClient::new(session.channel).delete_range(request).await }
        };
        self.ask("remove", ask).await.map(drop)
    }

    /// The keys that begin so, and the revision that they were read at.
    pub(crate) async fn list(&self, prefix: &str) -> Result<(Vec<KeyValue>, i64), EtcdError> {
        let request = RangeRequest {
            key: prefix.into(),
            range_end: range_end(prefix.as_bytes()),
        };
        self.range(request).await
    }

    async fn range(&self, range: RangeRequest) -> Result<(Vec<KeyValue>, i64), EtcdError> {
        let ask = |session: Session| {
            let request = session.request(range.clone());
            async move { KvClient::new(session.channel).range(request).await }
        };
        let answer = self.ask("read", ask).await?;
        Ok((answer.kvs, answer.header.map_or(0, |h| h.revision)))
    }

    /// Writes a key under a lease (0: none) if it is as expected; the revision, or `None` if it was not.
    pub(crate) async fn write(
        &self,
        key: &str,
        value: &str,
        lease: i64,
        when: When,
    ) -> Result<Option<i64>, EtcdError> {
        let (target, union) = match when {
            When::Absent => (CompareTarget::Version, TargetUnion::Version(0)),
            When::Unchanged(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
        };
        let compare = Compare {
            result: 0,
            target: target.into(),
            key: key.into(),
            target_union: Some(union),
        };
        let put = PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp {
                request: Some(Op::RequestPut(put)),
            }],
        };
        let ask = |session: Session| {
            let request = session.request(txn.clone());
            async move { KvClient::new(session.channel).txn(request).await }
        };
        let answer = self.ask("write a lease", ask).await?;
        let revision = answer.header.map_or(0, |h| h.revision);
        Ok(answer.succeeded.then_some(revision))
    }

    /// A new lease of so many seconds.
    pub(crate) async fn grant(&self, seconds: i64) -> Result<i64, EtcdError> {
        let ask = |session: Session| {
            let request = session.request(LeaseGrantRequest { ttl: seconds });
            async move { LeaseClient::new(session.channel).lease_grant(request).await }
        };
        Ok(self.ask("grant a lease", ask).await?.id)
    }

    /// Ends a lease and removes what is under it.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let ask = |session: Session| {
            let request = session.request(LeaseRevokeRequest { id: lease });
            async move { LeaseClient::new(session.channel).lease_revoke(request).await }
        };
        self.ask("revoke a lease", ask).await.map(drop)
    }

    /// The seconds that a lease has left; `None` when it is over.
    pub(crate) async fn time_to_live(&self, lease: i64) -> Result<Option<i64>, EtcdError> {
        let ask = |session: Session| {
            let request = session.request(LeaseTimeToLiveRequest { id: lease });
            async move {
                LeaseClient::new(session.channel)
                    .lease_time_to_live(request)
                    .await
            }
        };
        let answer = self.ask("ask for a lease's time", ask).await?;
        Ok(Some(answer.ttl).filter(|ttl| *ttl >= 0))
    }

    /// Follows the keys that begin so from a revision on.
    pub(crate) async fn watch(&self, prefix: &str, revision: i64) -> Result<Watcher, EtcdError> {
        let ask = |session: Session| {
            let (requests, stream) = Watcher::requests(prefix, revision);
            let mut request = session.request(stream);
            // A member that has lost the others ends the watch instead of staying silent.
            request
                .metadata_mut()
                .insert("hasleader", MetadataValue::from_static("true"));
            async move {
                let answer = WatchClient::new(session.channel).watch(request).await?;
                Ok(Response::new((answer.into_inner(), requests)))
            }
        };
        let (stream, requests) = self.ask("watch", ask).await?;
        Ok(Watcher::new(stream, requests))
    }

    /// Asks one member after another until one answers, each at most twice.
    async fn ask<T, F>(&self, op: &'static str, mut rpc: impl FnMut(Session) -> F) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut tries = 2 * self.shared.members.len();
        loop {
            tries -= 1;
            let (error, count) = match self.session().await {
                Err(error) => (error, None),
                Ok(session) => {
                    let (endpoint, count) = (session.endpoint.clone(), session.count);
                    match tokio::time::timeout(ANSWER_WITHIN, rpc(session)).await {
                        Ok(Ok(answer)) => return Ok(answer.into_inner()),
                        Ok(Err(status)) => {
                            let status = Box::new(status);
                            (EtcdError::Status { op, endpoint, status }, Some(count))
                        }
                        Err(_) => (EtcdError::Timeout { op, endpoint }, Some(count)),
                    }
                }
            };
            let again = error.elsewhere() || error.logged_out();
            if again {
                self.leave(count, error.elsewhere()).await;
            }
            if !again || tries == 0 {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "asking again");
        }
    }

    /// The connection, made and logged in if there is none.
    async fn session(&self) -> Result<Session, EtcdError> {
        let mut link = self.shared.link.lock().await;
        if let Some(session) = &link.session {
            return Ok(session.clone());
        }
        let member = &self.shared.members[link.member % self.shared.members.len()];
        let opened = self.open(member).await;
        let (channel, token) = opened.inspect_err(|_| link.member += 1)?;
        link.count += 1;
        let session = Session {
            channel,
            token,
            endpoint: member.name.clone(),
            count: link.count,
        };
        tracing::debug!(endpoint = member.name, "connected to etcd");
        link.session = Some(session.clone());
        Ok(session)
    }

    async fn open(&self, member: &Member) -> Result<(Channel, Option<MetadataValue<Ascii>>), EtcdError> {
        let channel = member.connect(&self.shared.access.tls).await?;
        let Some(credentials) = &self.shared.access.credentials else {
            return Ok((channel, None));
        };
        let (op, endpoint) = ("log in", member.name.clone());
        let request = AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        let mut client = AuthClient::new(channel.clone());
        let answer = match tokio::time::timeout(ANSWER_WITHIN, client.authenticate(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            // Without authentication etcd takes everybody, whatever they say of themselves.
            Ok(Err(status)) if status.message().contains("authentication is not enabled") => {
                return Ok((channel, None));
            }
            Ok(Err(status)) => {
                let status = Box::new(status);
                return Err(EtcdError::Status { op, endpoint, status });
            }
            Err(_) => return Err(EtcdError::Timeout { op, endpoint }),
        };
        Ok((channel, answer.token.parse().ok()))
    }

    /// Gives a connection up, unless another has taken its place already.
    async fn leave(&self, count: Option<u64>, member: bool) {
        let mut link = self.shared.link.lock().await;
        // Without a number there was none to give up.
        if count.is_none() || link.session.as_ref().map(|s| s.count) != count {
            return;
        }
        link.session = None;
        if member {
            link.member += 1;
        }
    }
}

impl Session {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}
