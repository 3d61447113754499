//! What the machine really has of the pod, whatever the kubelet knows of it.

use super::super::Timestamp;
use crate::model::{ContainerRecord, ContainerState, Sandbox};

/// A runtime without the time that things take.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<ContainerRecord>,
    /// What happened by itself and the kubelet has not heard of.
    pub(super) notices: Vec<Notice>,
    next: u32,
}

/// Something that happened by itself.
#[derive(Clone)]
pub(super) enum Notice {
    /// A container ended.
    Ended(Box<ContainerRecord>),
    /// A sandbox was lost.
    Lost(String),
}

impl Machine {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}.{}", self.next)
    }

    pub(super) fn run_sandbox(&mut self, attempt: u32, now: Timestamp) -> Sandbox {
        let made = Sandbox {
            id: self.id("sandbox"),
            attempt,
            ready: true,
            ips: vec!["10.0.0.2".to_owned()],
            created_at: now,
        };
        self.sandboxes.push(made.clone());
        made
    }

    pub(super) fn is_ready(&self, sandbox: &str) -> bool {
        self.sandboxes.iter().any(|one| one.id == sandbox && one.ready)
    }

    pub(super) fn start(
        &mut self,
        name: &str,
        attempt: u32,
        sandbox_id: &str,
        hash: String,
        now: Timestamp,
    ) -> ContainerRecord {
        let made = ContainerRecord {
            id: self.id(name),
            name: name.to_owned(),
            sandbox_id: sandbox_id.to_owned(),
            attempt,
            state: ContainerState::Running,
            created_at: now,
            started_at: Some(now),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            hash,
            log_path: String::new(),
            user: None,
        };
        self.containers.push(made.clone());
        made
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        let all = self.containers.iter();
        all.filter(|one| one.state == ContainerState::Running)
    }

    pub(super) fn find(&self, id: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|one| one.id == id)
    }

    /// A container ends, if it runs; what there is of it then.
    pub(super) fn end(&mut self, id: &str, code: i32, now: Timestamp) -> Option<ContainerRecord> {
        let one = self.containers.iter_mut().find(|one| one.id == id)?;
        if one.state == ContainerState::Running {
            one.state = ContainerState::Exited;
            one.exit_code = code;
            one.finished_at = Some(now);
            one.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        }
        Some(one.clone())
    }

    /// A container ends by itself.
    pub(super) fn exit(&mut self, id: &str, code: i32, now: Timestamp) {
        if let Some(record) = self.end(id, code, now) {
            self.notices.push(Notice::Ended(Box::new(record)));
        }
    }

    /// A sandbox ends with what runs in it; the ids of that.
    pub(super) fn end_sandbox(&mut self, id: &str, now: Timestamp) -> Vec<String> {
        for one in self.sandboxes.iter_mut().filter(|one| one.id == id) {
            one.ready = false;
        }
        let inside = self.running().filter(|one| one.sandbox_id == id);
        let ids: Vec<String> = inside.map(|one| one.id.clone()).collect();
        for id in &ids {
            self.end(id, 137, now);
        }
        ids
    }

    /// The newest sandbox is lost.
    pub(super) fn lose_sandbox(&mut self, now: Timestamp) {
        let newest = self.sandboxes.iter().rfind(|one| one.ready);
        let Some(id) = newest.map(|one| one.id.clone()) else {
            return;
        };
        for id in self.end_sandbox(&id, now) {
            let record = self.find(&id).cloned().unwrap();
            self.notices.push(Notice::Ended(Box::new(record)));
        }
        self.notices.push(Notice::Lost(id));
    }
}
