//! The two traits a container engine implements.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::CriResult;
use crate::methods::{image_methods, runtime_methods};
use crate::v1::*;

/// Life-cycle events of containers and sandboxes, from the call on; ends with the runtime.
pub type ContainerEvents = BoxStream<'static, CriResult<ContainerEventResponse>>;

macro_rules! runtime_trait {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        /// Sandboxes and containers (`runtime.v1.RuntimeService`).
        #[async_trait]
        pub trait RuntimeService: Send + Sync + 'static {
            $($(#[$doc])* async fn $name(&self, request: $request) -> CriResult<$response>;)*

            /// Subscribes to the events of all containers and sandboxes (`GetContainerEvents`).
            async fn container_events(&self) -> CriResult<ContainerEvents>;
        }
    };
}

macro_rules! image_trait {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        /// Images (`runtime.v1.ImageService`).
        #[async_trait]
        pub trait ImageService: Send + Sync + 'static {
            $($(#[$doc])* async fn $name(&self, request: $request) -> CriResult<$response>;)*
        }
    };
}

runtime_methods!(runtime_trait);
image_methods!(image_trait);
