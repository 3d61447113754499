use crate::wire::{Attrs, Writer};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;
const NAME: &str = "counter";

/// What an element of a set with counters has counted since it was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Count {
    /// Packets that found it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    /// The key of an element and its counts; `None` for one that counts nothing.
    pub(crate) fn decode(element: Attrs<'_>) -> Option<(Vec<u8>, Self)> {
        let key = element.nested(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?;
        let expr = element.nested(NFTA_SET_ELEM_EXPR)?;
        let data = expr.nested(NFTA_EXPR_DATA).filter(|_| is_counter(expr))?;
        let count = Self {
            packets: data.be64(NFTA_COUNTER_PACKETS)?,
            bytes: data.be64(NFTA_COUNTER_BYTES)?,
        };
        Some((key.to_vec(), count))
    }
}

/// Writes a counter that begins at zero.
pub(super) fn encode(out: &mut Writer) {
    out.text(NFTA_EXPR_NAME, NAME);
    out.nest(NFTA_EXPR_DATA, |_| {});
}

/// Whether an expression counts.
pub(super) fn is_counter(expr: Attrs<'_>) -> bool {
    expr.text(NFTA_EXPR_NAME) == Some(NAME)
}
