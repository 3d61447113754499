//! Pod workers: plan(pod, observed, now) to actions; probes, status.
