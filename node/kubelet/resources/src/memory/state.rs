//! Who has memory of which nodes, and the file `memory_manager_state`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::checkpoint::{StateError, load, printed_map, store, sum};

/// One kind of memory of one node, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// All there is.
    pub total: u64,
    /// Not for pods.
    pub system_reserved: u64,
    /// For pods.
    pub allocatable: u64,
    /// Given to pods.
    pub reserved: u64,
    /// Left for pods.
    pub free: u64,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// How many blocks use it.
    pub assignments: i64,
    /// By resource.
    pub memory: BTreeMap<String, Table>,
    /// The nodes that are used together with it, and itself.
    pub cells: Vec<u32>,
}

/// Memory of one kind that a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// From which nodes.
    pub affinity: Vec<u32>,
    /// The resource.
    pub resource: String,
    /// Bytes.
    pub size: u64,
}

/// Nodes, and what containers have of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// By number.
    pub nodes: BTreeMap<u32, NodeState>,
    /// By uid and container.
    pub entries: BTreeMap<String, BTreeMap<String, Vec<Block>>>,
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

impl Table {
    fn printed(&self) -> String {
        format!(
            "<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} Reserved:(uint64){} Free:(uint64){}}}",
            self.total, self.system_reserved, self.allocatable, self.reserved, self.free
        )
    }

    fn to_json(self) -> Value {
        json!({"total": self.total, "systemReserved": self.system_reserved, "allocatable": self.allocatable,
            "reserved": self.reserved, "free": self.free})
    }

    fn from_value(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_u64();
        Some(Self {
            total: number("total")?,
            system_reserved: number("systemReserved")?,
            allocatable: number("allocatable")?,
            reserved: number("reserved")?,
            free: number("free")?,
        })
    }
}

impl NodeState {
    fn printed(&self) -> String {
        format!(
            "<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable){} Cells:([]int){}}}",
            self.assignments,
            printed_map(self.memory.iter().map(|(name, table)| (name, table.printed()))),
            list(&self.cells)
        )
    }

    fn to_json(&self) -> Value {
        let memory: Map<String, Value> = self
            .memory
            .iter()
            .map(|(name, table)| (name.clone(), table.to_json()))
            .collect();
        json!({"numberOfAssignments": self.assignments, "memoryMap": memory, "cells": self.cells})
    }

    fn from_value(value: &Value) -> Option<Self> {
        let tables = value["memoryMap"].as_object()?.iter();
        let table = |(name, table): (&String, &Value)| Some((name.clone(), Table::from_value(table)?));
        Some(Self {
            assignments: value["numberOfAssignments"].as_i64()?,
            memory: tables.map(table).collect::<Option<_>>()?,
            cells: numbers(&value["cells"])?,
        })
    }
}

impl Block {
    fn printed(&self) -> String {
        format!(
            "{{NUMAAffinity:([]int){} Type:(v1.ResourceName){} Size:(uint64){}}}",
            list(&self.affinity),
            self.resource,
            self.size
        )
    }

    fn to_json(&self) -> Value {
        json!({"numaAffinity": self.affinity, "type": self.resource, "size": self.size})
    }

    fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            affinity: numbers(&value["numaAffinity"])?,
            resource: value["type"].as_str()?.to_owned(),
            size: value["size"].as_u64()?,
        })
    }
}

fn numbers(value: &Value) -> Option<Vec<u32>> {
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    value.as_array()?.iter().map(number).collect()
}

impl MemoryState {
    /// What a container has.
    pub fn of(&self, uid: &str, container: &str) -> Option<&Vec<Block>> {
        self.entries.get(uid)?.get(container)
    }

    fn printed(&self, policy: &str) -> String {
        let pods = self.entries.iter().map(|(uid, containers)| {
            let containers = containers.iter().map(|(name, blocks)| {
                let blocks: Vec<String> = blocks.iter().map(Block::printed).collect();
                (name, format!("[{}]", blocks.join(" ")))
            });
            (uid, printed_map(containers))
        });
        format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){policy} MachineState:(state.NUMANodeMap){} \
             Entries:(state.ContainerMemoryAssignments){} Checksum:(checksum.Checksum)0}}",
            printed_map(self.nodes.iter().map(|(id, node)| (id, node.printed()))),
            printed_map(pods)
        )
    }

    /// The file's text.
    pub fn to_text(&self, policy: &str) -> String {
        let nodes = self
            .nodes
            .iter()
            .map(|(id, node)| (id.to_string(), node.to_json()));
        let pod = |(uid, containers): (&String, &BTreeMap<String, Vec<Block>>)| {
            let blocks = |blocks: &Vec<Block>| Value::Array(blocks.iter().map(Block::to_json).collect());
            let containers = containers.iter().map(|(name, all)| (name.clone(), blocks(all)));
            (uid.clone(), Value::Object(containers.collect()))
        };
        let mut text = json!({"policyName": policy, "machineState": Value::Object(nodes.collect())});
        if !self.entries.is_empty() {
            text["entries"] = Value::Object(self.entries.iter().map(pod).collect());
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
            Some(checksum) if checksum == 0 || checksum == sum(&state.printed(policy)) => Ok(state),
            _ => Err(corrupt()),
        }
    }

    fn from_value(value: &Value) -> Option<Self> {
        let node = |(id, node): (&String, &Value)| Some((id.parse().ok()?, NodeState::from_value(node)?));
        let container = |(name, blocks): (&String, &Value)| {
            let blocks = blocks.as_array()?.iter().map(Block::from_value);
            Some((name.clone(), blocks.collect::<Option<Vec<_>>>()?))
        };
        let pod = |(uid, containers): (&String, &Value)| {
            let containers = containers.as_object()?.iter().map(container);
            Some((uid.clone(), containers.collect::<Option<BTreeMap<_, _>>>()?))
        };
        let nodes = value["machineState"].as_object().into_iter().flatten();
        let entries = value["entries"].as_object().into_iter().flatten();
        Some(Self {
            nodes: nodes.map(node).collect::<Option<_>>()?,
            entries: entries.map(pod).collect::<Option<_>>()?,
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
