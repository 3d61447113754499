use std::cell::RefCell;
use std::collections::HashSet;

use crate::batch::msg;
use crate::error::Error;
use crate::object::{
    Chain, Element, Family, NFTA_RULE_HANDLE, NFTA_SET_NAME, NFTA_TABLE, Rule, Set, TableRef, pair_intervals,
};
use crate::socket::Socket;
use crate::wire::{Attrs, Message, Writer};

const NFTA_CHAIN_HANDLE: u16 = 2;
const NFTA_SET_HANDLE: u16 = 16;
const NFTA_SET_COUNT: u16 = 20;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
/// How often a set whose elements do not add up is read.
const READ_ATTEMPTS: usize = 16;

/// An object as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The kernel's number for it, unique in its table.
    pub handle: u64,
    /// The object; `Err` with its name where it uses something this crate does not model.
    pub object: Result<T, String>,
}

impl Socket {
    /// The tables of a family.
    pub fn tables(&mut self, family: Family) -> Result<Vec<TableRef>, Error> {
        let number = family.number();
        self.collect(
            &format!("tables of family {family}"),
            msg::GETTABLE,
            number,
            |_| {},
            |message| {
                let name = message.attrs().text(NFTA_TABLE)?;
                Some(TableRef::new(Family::from_number(message.family()), name))
            },
        )
    }

    /// Whether the table exists.
    pub fn has_table(&mut self, table: &TableRef) -> Result<bool, Error> {
        let tables = self.tables(table.family)?;
        Ok(tables.contains(table))
    }

    /// The chains of a table.
    pub fn chains(&mut self, table: &TableRef) -> Result<Vec<Listed<Chain>>, Error> {
        self.objects(
            "chains",
            msg::GETCHAIN,
            table,
            NFTA_CHAIN_HANDLE,
            Chain::decode,
            3,
        )
    }

    /// The sets and maps of a table, without their elements.
    pub fn sets(&mut self, table: &TableRef) -> Result<Vec<Listed<Set>>, Error> {
        self.objects(
            "sets",
            msg::GETSET,
            table,
            NFTA_SET_HANDLE,
            Set::decode,
            NFTA_SET_NAME,
        )
    }

    /// The rules of a table, chain by chain in the order in which they apply.
    pub fn rules(&mut self, table: &TableRef) -> Result<Vec<Listed<Rule>>, Error> {
        self.objects("rules", msg::GETRULE, table, NFTA_RULE_HANDLE, Rule::decode, 2)
    }

    /// The elements of a set or map; those of an interval set as ranges.
    ///
    /// While the kernel grows the hash table of a set, a listing may leave out elements and repeat others, and
    /// nothing in it says so. So it is counted, and read again where the count is wrong.
    pub fn elements(&mut self, table: &TableRef, set: &str, interval: bool) -> Result<Vec<Element>, Error> {
        let mut before = None;
        for _ in 0..READ_ATTEMPTS {
            let entries = self.read_elements(table, set)?;
            if interval {
                return Ok(pair_intervals(entries));
            }
            let listed = entries.len();
            let mut keys = HashSet::with_capacity(listed);
            let mut distinct: Vec<Element> = entries.into_iter().map(|(element, _)| element).collect();
            distinct.retain(|element| keys.insert(element.key.clone()));
            let found = distinct.len();
            let counted = self.element_count(table, set)?;
            // Elements that have timed out are still counted, and older kernels do not count.
            if counted == Some(found) || (found == listed && before == Some(found)) {
                return Ok(distinct);
            }
            before = Some(found);
        }
        let source = std::io::Error::from_raw_os_error(libc::EINTR);
        Err(Error::List {
            what: format!("elements of {table} {set}"),
            source,
        })
    }

    fn read_elements(&mut self, table: &TableRef, set: &str) -> Result<Vec<(Element, bool)>, Error> {
        let entries = RefCell::new(Vec::new());
        let fill = |out: &mut Writer| name_set(out, table, set);
        let mut restart = || entries.borrow_mut().clear();
        let mut seen = |message: &Message<'_>| {
            let list = message
                .attrs()
                .nested(NFTA_SET_ELEM_LIST_ELEMENTS)
                .unwrap_or(Attrs(&[]));
            let decoded = list
                .into_iter()
                .filter_map(|(_, entry)| Element::decode(Attrs(entry)));
            entries.borrow_mut().extend(decoded);
        };
        let (kind, family) = (msg::full(msg::GETSETELEM), table.family.number());
        self.list(
            &format!("elements of {table} {set}"),
            kind,
            family,
            fill,
            &mut restart,
            &mut seen,
        )?;
        Ok(entries.into_inner())
    }

    /// How many elements the kernel counts in a set; none before Linux 6.16, which does not say.
    fn element_count(&mut self, table: &TableRef, set: &str) -> Result<Option<usize>, Error> {
        let mut count = None;
        let fill = |out: &mut Writer| name_set(out, table, set);
        let (kind, family) = (msg::full(msg::GETSET), table.family.number());
        self.request(
            &format!("set {set} of {table}"),
            kind,
            0,
            family,
            fill,
            &mut |message| {
                count = count.or(message.attrs().be32(NFTA_SET_COUNT));
            },
        )?;
        Ok(count.map(|count| count as usize))
    }

    fn objects<T>(
        &mut self,
        plural: &str,
        kind: u16,
        table: &TableRef,
        handle: u16,
        decode: fn(Attrs<'_>) -> Option<T>,
        name: u16,
    ) -> Result<Vec<Listed<T>>, Error> {
        let what = format!("{plural} of {table}");
        let fill = |out: &mut Writer| out.text(NFTA_TABLE, &table.name);
        self.collect(&what, kind, table.family.number(), fill, |message| {
            let attrs = message.attrs();
            // The kernel filters chains by family only.
            if attrs.text(NFTA_TABLE) != Some(&table.name) {
                return None;
            }
            let object = decode(attrs).ok_or_else(|| attrs.text(name).unwrap_or_default().to_owned());
            Some(Listed {
                handle: attrs.be64(handle).unwrap_or_default(),
                object,
            })
        })
    }

    fn collect<T>(
        &mut self,
        what: &str,
        kind: u16,
        family: u8,
        fill: impl Fn(&mut Writer),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let found = RefCell::new(Vec::new());
        let mut restart = || found.borrow_mut().clear();
        let mut seen = |message: &Message<'_>| found.borrow_mut().extend(read(message));
        self.list(what, msg::full(kind), family, fill, &mut restart, &mut seen)?;
        Ok(found.into_inner())
    }
}

fn name_set(out: &mut Writer, table: &TableRef, set: &str) {
    out.text(NFTA_TABLE, &table.name);
    out.text(NFTA_SET_NAME, set);
}
