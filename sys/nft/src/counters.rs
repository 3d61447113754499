use std::cell::RefCell;

use crate::batch::msg;
use crate::error::Error;
use crate::object::{Count, NFTA_SET_NAME, NFTA_TABLE, TableRef};
use crate::socket::Socket;
use crate::wire::{Attrs, Message, Writer};

const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

impl Socket {
    /// What the elements of a set with counters ([`crate::Set::counter`]) have counted, by key. While the kernel
    /// grows the set's hash table an element may be left out.
    ///
    /// # Errors
    /// [`Error::List`], as where the set is not there.
    pub fn counters(&mut self, table: &TableRef, set: &str) -> Result<Vec<(Vec<u8>, Count)>, Error> {
        let counts = RefCell::new(Vec::new());
        let fill = |out: &mut Writer| {
            out.text(NFTA_TABLE, &table.name);
            out.text(NFTA_SET_NAME, set);
        };
        let mut restart = || counts.borrow_mut().clear();
        let mut seen = |message: &Message<'_>| {
            let list = message.attrs().nested(NFTA_SET_ELEM_LIST_ELEMENTS);
            let entries = list.unwrap_or(Attrs(&[])).into_iter();
            counts
                .borrow_mut()
                .extend(entries.filter_map(|(_, entry)| Count::decode(Attrs(entry))));
        };
        self.list(
            &format!("counters of {table} {set}"),
            msg::full(msg::GETSETELEM),
            table.family.number(),
            fill,
            &mut restart,
            &mut seen,
        )?;
        Ok(counts.into_inner())
    }
}
