//! Clients in this process.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::handler::Handler;
use crate::http::{Body, BoxError};
use crate::user::UserInfo;

/// The API as a tower service, for one user.
#[derive(Clone)]
pub struct LocalService {
    handler: Arc<Handler>,
    user: UserInfo,
}

impl std::fmt::Debug for LocalService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalService")
            .field("user", &self.user.name)
            .finish_non_exhaustive()
    }
}

impl LocalService {
    pub(crate) fn new(handler: Arc<Handler>, user: UserInfo) -> Self {
        Self { handler, user }
    }
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let handler = self.handler.clone();
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.extensions_mut().insert(self.user.clone());
        Box::pin(async move { Ok(handler.handle(request).await) })
    }
}
