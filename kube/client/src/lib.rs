//! One Kubernetes client over any transport, informers, work queue, back-off, clock.
