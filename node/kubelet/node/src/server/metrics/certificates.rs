//! How long the node's certificates are still good for (upstream: `kubelet_certificate_manager_*_ttl_seconds`).

use jiff::Timestamp;
use knode_kubelet_metrics::Page;
use knode_pki::Certificate;

use crate::certificate::CertificateStore;

/// Where the certificates that this node renews are kept.
pub(crate) struct Certificates {
    /// That by which it asks the API server.
    pub(crate) client: CertificateStore,
    /// That which its API shows.
    pub(crate) serving: CertificateStore,
}

/// Adds those that are there; one that was handed out by an administrator is not told of.
pub(super) fn text(certificates: &Certificates, now: Timestamp, page: &mut Page) {
    let all = [
        (
            "kubelet_certificate_manager_client_ttl_seconds",
            &certificates.client,
        ),
        (
            "kubelet_certificate_manager_server_ttl_seconds",
            &certificates.serving,
        ),
    ];
    for (name, store) in all {
        if let Some(left) = left(store, now) {
            page.gauge(
                name,
                "Seconds until the certificate ends; negative once it has.",
                left,
            );
        }
    }
}

fn left(store: &CertificateStore, now: Timestamp) -> Option<f64> {
    let found = store.current().ok().flatten()?;
    let found = Certificate::from_pem(&found.cert_pem).ok()?;
    Some(found.not_after.duration_since(now).as_secs_f64().floor())
}
