//! The node's side of the kubelet: TLS bootstrap, registration, status, lease, HTTPS server.
