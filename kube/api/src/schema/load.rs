//! `schema.txt` to table.
use super::Schema;

pub(super) fn parse(_text: &'static str) -> Schema {
    Schema {
        types: Vec::new(),
        fields: Vec::new(),
    }
}
