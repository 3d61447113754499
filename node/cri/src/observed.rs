//! A runtime whose every call somebody is told of, for metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::error::CriResult;
use crate::methods::{image_methods, runtime_methods};
use crate::service::{ContainerEvents, ImageService, RuntimeService};
use crate::v1::*;

/// Who is told of calls.
pub trait Observer: Send + Sync + 'static {
    /// A call of this method (`run_pod_sandbox`) has come back.
    fn called(&self, method: &'static str, took: Duration, failed: bool);
}

/// A service, told of to an [`Observer`].
pub struct Observed<S: ?Sized, O> {
    inner: Arc<S>,
    observer: Arc<O>,
}

impl<S: ?Sized, O: Observer> Observed<S, O> {
    /// Tells `observer` of each call of `inner`. A call that is given up is not told of.
    pub fn new(inner: Arc<S>, observer: Arc<O>) -> Self {
        Self { inner, observer }
    }

    fn told<T>(&self, method: &'static str, since: Instant, answer: CriResult<T>) -> CriResult<T> {
        self.observer.called(method, since.elapsed(), answer.is_err());
        answer
    }
}

macro_rules! observed_runtime {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl<O: Observer> RuntimeService for Observed<dyn RuntimeService, O> {
            $(async fn $name(&self, request: $request) -> CriResult<$response> {
                let since = Instant::now();
                self.told(stringify!($name), since, self.inner.$name(request).await)
            })*

            async fn container_events(&self) -> CriResult<ContainerEvents> {
                let since = Instant::now();
                self.told("container_events", since, self.inner.container_events().await)
            }
        }
    };
}

macro_rules! observed_images {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl<O: Observer> ImageService for Observed<dyn ImageService, O> {
            $(async fn $name(&self, request: $request) -> CriResult<$response> {
                let since = Instant::now();
                self.told(stringify!($name), since, self.inner.$name(request).await)
            })*
        }
    };
}

runtime_methods!(observed_runtime);
image_methods!(observed_images);
