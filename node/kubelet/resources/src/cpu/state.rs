//! Who has which processors, and the file `cpu_manager_state`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::checkpoint::{StateError, load, printed_map, store, sum};
use crate::cpuset::CpuSet;

/// Exclusive processors by pod and container, and those of everybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuState {
    /// The shared ones.
    pub shared: CpuSet,
    /// By uid and container.
    pub entries: BTreeMap<String, BTreeMap<String, CpuSet>>,
}

impl CpuState {
    /// A container's own.
    pub fn of(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.entries.get(uid)?.get(container)
    }

    /// All that are somebody's own.
    pub fn exclusive(&self) -> CpuSet {
        let all = self.entries.values().flat_map(BTreeMap::values);
        all.fold(CpuSet::EMPTY, |sum, set| sum.union(set))
    }

    /// Takes back what a pod has. Whether it had any.
    pub fn release(&mut self, uid: &str) -> bool {
        let Some(own) = self.entries.remove(uid) else {
            return false;
        };
        let own = own.values().fold(CpuSet::EMPTY, |sum, set| sum.union(set));
        self.shared = self.shared.union(&own);
        true
    }

    /// The object as upstream's checksum sees it.
    fn printed(&self, policy: &str) -> String {
        let pods = self.entries.iter().map(|(uid, containers)| {
            let containers = containers.iter().map(|(name, set)| (name, set.to_string()));
            (uid, printed_map(containers))
        });
        format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){policy} DefaultCPUSet:(string){} \
             Entries:(map[string]map[string]string){} Checksum:(checksum.Checksum)0}}",
            self.shared,
            printed_map(pods)
        )
    }

    /// The file's text.
    pub fn to_text(&self, policy: &str) -> String {
        let entries: Map<String, Value> = self
            .entries
            .iter()
            .map(|(uid, containers)| {
                let sets = containers
                    .iter()
                    .map(|(name, set)| (name.clone(), json!(set.to_string())));
                (uid.clone(), Value::Object(sets.collect()))
            })
            .collect();
        let mut text = json!({"policyName": policy, "defaultCpuSet": self.shared.to_string()});
        if !entries.is_empty() {
            text["entries"] = Value::Object(entries);
        }
        text["checksum"] = json!(sum(&self.printed(policy)));
        text.to_string()
    }

    /// Reads the file; an empty state if there is none.
    ///
    /// # Errors
    /// [`StateError`] where it is damaged or of another policy.
    pub fn load(path: &Path, policy: &str) -> Result<Self, StateError> {
        let Some(value) = load(path, policy)? else {
            return Ok(Self::default());
        };
        let corrupt = || StateError::Corrupt {
            path: path.to_owned(),
        };
        let state = Self::from_value(&value).ok_or_else(corrupt)?;
        match value["checksum"].as_u64() {
            // As upstream: files of its first form have none.
            Some(0) => Ok(state),
            Some(checksum) if checksum == sum(&state.printed(policy)) => Ok(state),
            _ => Err(corrupt()),
        }
    }

    fn from_value(value: &Value) -> Option<Self> {
        let set = |value: &Value| value.as_str()?.parse::<CpuSet>().ok();
        let mut entries = BTreeMap::new();
        for (uid, containers) in value["entries"].as_object().into_iter().flatten() {
            let mut own = BTreeMap::new();
            for (name, cpus) in containers.as_object()? {
                own.insert(name.clone(), set(cpus)?);
            }
            entries.insert(uid.clone(), own);
        }
        Some(Self {
            shared: set(&value["defaultCpuSet"])?,
            entries,
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn store(&self, path: &Path, policy: &str) -> Result<(), StateError> {
        store(path, &self.to_text(policy))
    }
}
