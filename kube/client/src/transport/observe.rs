//! Who is told of requests, for metrics.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::Response;

/// Who is told of a client's requests.
pub trait RequestObserver: Send + Sync + 'static {
    /// The server at `host` (with its port) has begun to answer a request with `method` by this status code, or has
    /// not answered at all.
    fn answered(&self, host: &str, method: &str, code: Option<u16>, took: Duration);
}

/// The place of an observer, which is found after the client was made.
#[derive(Clone, Default)]
pub(crate) struct Observers(Arc<OnceLock<Arc<dyn RequestObserver>>>);

impl Observers {
    /// Only the first one counts.
    pub(super) fn set(&self, observer: Arc<dyn RequestObserver>) {
        // A second one would count the same requests.
        let _ = self.0.set(observer);
    }

    /// The answer, told of.
    pub(super) async fn told<B, E>(
        &self,
        host: &str,
        method: &str,
        answer: impl Future<Output = Result<Response<B>, E>>,
    ) -> Result<Response<B>, E> {
        let since = Instant::now();
        let answer = answer.await;
        if let Some(observer) = self.0.get() {
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            observer.answered(host, method, code, since.elapsed());
        }
        answer
    }
}
