//! Processors, memory and NUMA nodes of pods: what is exclusive, what is shared, what is reserved.

pub mod topology;
