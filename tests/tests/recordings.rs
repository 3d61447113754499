//! What a running cluster answers and writes beside what Kubernetes 1.36.2 did (`data/recordings`). What stays
//! different stands here in lists with its reason, and in `docs/differences.md`.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "recordings/answers.rs"]
mod answers;
#[path = "recordings/controllers.rs"]
mod controllers;
#[path = "recordings/pods.rs"]
mod pods;
