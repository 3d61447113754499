use crate::batch::msg;
use crate::error::Error;
use crate::object::{
    Chain, Element, Family, NFTA_RULE_HANDLE, NFTA_SET_NAME, NFTA_TABLE, Rule, Set, TableRef, pair_intervals,
};
use crate::socket::Socket;
use crate::wire::{Attrs, Message};

const NFTA_CHAIN_HANDLE: u16 = 2;
const NFTA_SET_HANDLE: u16 = 16;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

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
    pub fn elements(&mut self, table: &TableRef, set: &str, interval: bool) -> Result<Vec<Element>, Error> {
        let mut entries = Vec::new();
        let what = format!("elements of {table} {set}");
        let fill = |out: &mut crate::wire::Writer| {
            out.text(NFTA_TABLE, &table.name);
            out.text(NFTA_SET_NAME, set);
        };
        let cell = std::cell::RefCell::new(&mut entries);
        let kind = msg::full(msg::GETSETELEM);
        self.list(
            &what,
            kind,
            table.family.number(),
            fill,
            &mut || cell.borrow_mut().clear(),
            &mut |message| {
                let list = message
                    .attrs()
                    .nested(NFTA_SET_ELEM_LIST_ELEMENTS)
                    .unwrap_or(Attrs(&[]));
                let decoded = list
                    .into_iter()
                    .filter_map(|(_, entry)| Element::decode(Attrs(entry)));
                cell.borrow_mut().extend(decoded);
            },
        )?;
        if interval {
            return Ok(pair_intervals(entries));
        }
        Ok(entries.into_iter().map(|(element, _)| element).collect())
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
        let fill = |out: &mut crate::wire::Writer| out.text(NFTA_TABLE, &table.name);
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
        fill: impl Fn(&mut crate::wire::Writer),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        let mut restart = || found.borrow_mut().clear();
        let mut seen = |message: &Message<'_>| found.borrow_mut().extend(read(message));
        self.list(what, msg::full(kind), family, fill, &mut restart, &mut seen)?;
        Ok(found.into_inner())
    }
}
