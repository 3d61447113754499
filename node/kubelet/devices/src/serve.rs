//! Services on unix sockets.

use std::convert::Infallible;
use std::path::Path;

use knode_cri::server::{ServeError, bind};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Router;

/// Serves on `socket` for as long as it is polled.
///
/// # Errors
/// [`ServeError`].
pub(crate) async fn serve(socket: &Path, router: Router) -> Result<Infallible, ServeError> {
    let listener = bind(socket).await?;
    let served = router
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await;
    served.map_err(|source| ServeError::Serve {
        path: socket.to_owned(),
        source,
    })?;
    // A listener of a unix socket has no end.
    std::future::pending().await
}
