//! What is asked: the parts of the path, the options in the query.

mod info;
mod options;

pub(crate) use info::{RequestInfo, Verb};
pub(crate) use options::{
    DeleteOptions, FieldValidation, ListOptions, Match, Propagation, WriteOptions, invalid as invalid_options,
};
