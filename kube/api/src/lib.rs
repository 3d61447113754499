//! Kubernetes objects as JSON values and the facts about them: schema, strict decoding, protobuf codec,
//! patches, selectors, quantities, names, times, taints and status errors. Pure: no I/O, no clock.
pub mod decode;
pub mod encode;
pub mod field;
pub mod goname;
pub mod hash;
pub mod names;
pub mod patch;
pub mod proto;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod taints;
pub mod time;
pub mod volume;
