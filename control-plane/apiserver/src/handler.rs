//! From a request to its answer: who, whether, what.

use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use knode_api::status::Status;

use crate::auth::{Attributes, impersonate};
use crate::core::Core;
use crate::discovery::Discovery;
use crate::http::{Body, Failure, Query, RequestBody, failure};
use crate::metrics::Metrics;
use crate::nonresource;
use crate::registry::{Sent, dispatch, inconsistent_token};
use crate::request::RequestInfo;

/// Answers requests of every transport.
pub(crate) struct Handler {
    core: Arc<Core>,
    discovery: Discovery,
    metrics: Metrics,
}

impl Handler {
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            discovery: Discovery::new(&core.config),
            core,
            metrics: Metrics::default(),
        }
    }

    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The answer to a request.
    pub async fn handle(self: Arc<Self>, request: Request<RequestBody>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let verb = info.verb.name();
        let continued = query.clone();
        let sent = Sent {
            headers: parts.headers,
            raw_query: parts.uri.query().unwrap_or_default().to_owned(),
            query,
            body,
            extensions: parts.extensions,
            method: parts.method,
        };
        let mut response = match self.answer(info, sent).await {
            Ok(response) => response,
            Err(status) => self.failed(&status, &continued),
        };
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            http::HeaderValue::from_static("no-cache, private"),
        );
        self.metrics.count(verb, response.status());
        response
    }

    async fn answer(&self, info: RequestInfo, sent: Sent) -> Result<Response<Body>, Failure> {
        let core = &self.core;
        let sender = core.authenticator.identify(&sent.headers, &sent.extensions)?;
        let user = impersonate(&core.authorizer, sender, &sent.headers)?;
        core.authorizer
            .require(&Attributes::of(&info, &user, &sent.query))?;
        if info.is_resource {
            return dispatch(core, info, user, sent).await;
        }
        nonresource::answer(self, &info, &sent)
    }

    /// An expired page comes with a token that goes on without consistency.
    fn failed(&self, status: &Status, query: &Query) -> Response<Body> {
        let token = (status.code == 410).then(|| inconsistent_token(query)).flatten();
        match token {
            None => failure(status),
            Some(token) => {
                let mut value = status.to_value();
                value["metadata"]["continue"] = token.into();
                crate::http::json(StatusCode::GONE, &value)
            }
        }
    }
}
