//! Generic Kubernetes API registry: HTTP, authentication, authorization, watch fan-out.
