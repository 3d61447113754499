//! The short cut for packets between pods of different hosts, beside the overlay.

use knode_fastpath::FastPath;
use tokio::sync::watch;

/// Says `off` where every packet is to pass bridge and filters.
const SWITCH: &str = "KNODE_FAST_PATH";
/// The pods' bridge, here and with upstream's plugins.
const BRIDGE: &str = "cni0";

/// Keeps the short cut for pods on the bridge `cni0`, from when there is a subnet until dropped. Where there can be none
/// the log tells why, and everything goes the long way.
pub async fn run<S>(mut subnet: watch::Receiver<Option<S>>) -> std::convert::Infallible {
    if std::env::var(SWITCH).is_ok_and(|value| value == "off") {
        tracing::info!("packets between pods of different hosts take no short cut: {SWITCH}=off");
        return std::future::pending().await;
    }
    if subnet.wait_for(Option::is_some).await.is_err() {
        // The overlay has ended, which says itself why.
        return std::future::pending().await;
    }
    let ended = match tokio::task::spawn_blocking(|| FastPath::open(BRIDGE)).await {
        Ok(Ok(path)) => path.run().await,
        Ok(Err(error)) => Err(error),
        // Only a runtime that ends cancels it.
        Err(_) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::info!(
            error = &error as &dyn std::error::Error,
            "packets between pods of different hosts take no short cut"
        );
    }
    std::future::pending().await
}
