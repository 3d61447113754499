//! Every method crosses the socket and comes back as itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use crate::methods::{image_methods, runtime_methods};
use crate::v1::*;
use crate::{Code, ContainerEvents, CriError, CriResult, ImageService, RuntimeService, client, server};

struct Echo;

macro_rules! echo_runtime {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl RuntimeService for Echo {
            $(async fn $name(&self, _request: $request) -> CriResult<$response> {
                Err(CriError::not_found(stringify!($name)))
            })*

            async fn container_events(&self) -> CriResult<ContainerEvents> {
                let event = ContainerEventResponse { container_id: "c1".into(), ..Default::default() };
                Ok(futures::stream::iter([Ok(event), Err(CriError::unavailable("over"))]).boxed())
            }
        }

        async fn assert_runtime(service: &dyn RuntimeService) {
            $(
                let error = service.$name($request::default()).await.expect_err(stringify!($name));
                assert_eq!((error.code, error.message.as_str()), (Code::NotFound, stringify!($name)));
            )*
        }
    };
}

macro_rules! echo_images {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl ImageService for Echo {
            $(async fn $name(&self, _request: $request) -> CriResult<$response> {
                Err(CriError::not_found(stringify!($name)))
            })*
        }

        async fn assert_images(service: &dyn ImageService) {
            $(
                let error = service.$name($request::default()).await.expect_err(stringify!($name));
                assert_eq!((error.code, error.message.as_str()), (Code::NotFound, stringify!($name)));
            )*
        }
    };
}

runtime_methods!(echo_runtime);
image_methods!(echo_images);

async fn connect_when_up(socket: &std::path::Path) -> client::RemoteRuntime {
    for _ in 0..200 {
        if let Ok(remote) = client::connect(socket).await {
            return remote;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nothing answers on {}", socket.display());
}

#[tokio::test]
async fn every_method_crosses_the_socket() {
    let directory = std::env::temp_dir().join(format!("knode-cri-{}", std::process::id()));
    let socket = directory.join("cri.sock");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let at = socket.clone();
    let serving = tokio::spawn(async move {
        let over = async {
            // An error means the sender is gone, which ends the server as well.
            let _ = stopped.await;
        };
        server::serve(&at, Arc::new(Echo), Arc::new(Echo), over).await
    });
    let remote = connect_when_up(&socket).await;
    assert_runtime(&remote).await;
    assert_images(&remote).await;
    let mut events = remote.container_events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().container_id, "c1");
    assert_eq!(events.next().await.unwrap().unwrap_err().code, Code::Unavailable);

    let second = server::serve(&socket, Arc::new(Echo), Arc::new(Echo), std::future::pending()).await;
    assert!(
        matches!(second, Err(server::ServeError::InUse { .. })),
        "{second:?}"
    );
    drop((remote, events));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(!socket.exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn secrets_are_not_printed() {
    let auth = AuthConfig {
        username: "u".into(),
        password: "hunter2".into(),
        ..Default::default()
    };
    let request = PullImageRequest {
        auth: Some(auth),
        ..Default::default()
    };
    let shown = format!("{request:?}");
    assert!(
        shown.contains("<redacted>") && !shown.contains("hunter2"),
        "{shown}"
    );
}
