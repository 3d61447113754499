use std::fmt;

use crate::object::{
    Chain, Element, NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, NFTA_RULE_HANDLE, NFTA_SET_NAME, NFTA_TABLE, Rule, Set,
    TableRef,
};
use crate::wire::{Attrs, Message, Messages, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, Writer};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
/// A nested attribute holds less than 64 KiB; a list of elements is cut before that.
const ELEMENTS_PER_MESSAGE: usize = 60_000;

/// Numbers of the nf_tables messages, without the subsystem.
pub(crate) mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const GETSET: u16 = 10;
    pub const DELSET: u16 = 11;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const NEWGEN: u16 = 15;
    pub const GETGEN: u16 = 16;

    /// The message type with its subsystem.
    pub const fn full(kind: u16) -> u16 {
        (super::NFNL_SUBSYS_NFTABLES << 8) | kind
    }
}

/// Commands over one table that are applied together or not at all.
///
/// Commands are encoded as they are added, so that a batch of many thousand elements stays small;
/// its `Display` reads them back, one a line.
#[derive(Clone)]
pub struct Batch {
    table: TableRef,
    out: Writer,
    commands: u32,
    sets: u32,
    last: usize,
    generation: Option<u32>,
}

impl Batch {
    /// An empty batch over this table.
    pub fn new(table: TableRef) -> Self {
        Self {
            table,
            out: Writer::default(),
            commands: 0,
            sets: 0,
            last: 0,
            generation: None,
        }
    }

    /// The table.
    pub fn table(&self) -> &TableRef {
        &self.table
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// The number of commands; a list of elements is one, or several if it is very long.
    pub fn len(&self) -> usize {
        self.commands as usize
    }

    /// Bytes on the wire, a measure for the size of the change.
    pub fn wire_len(&self) -> usize {
        self.out.len()
    }

    /// Makes the commit fail with [`crate::Error::GenerationChanged`] if anyone has changed the ruleset since.
    pub fn expect_generation(&mut self, generation: u32) {
        self.generation = Some(generation);
    }

    pub(crate) fn expected_generation(&self) -> Option<u32> {
        self.generation
    }

    fn command(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer, &str)) {
        self.begin(kind, flags);
        fill(&mut self.out, &self.table.name);
        self.out.end(self.last);
    }

    /// Sequence numbers count from zero here; the socket shifts them when it sends.
    fn begin(&mut self, kind: u16, flags: u16) {
        let (kind, family) = (msg::full(kind), self.table.family.number());
        self.last = self
            .out
            .begin(kind, NLM_F_REQUEST | flags, self.commands, family, 0);
        self.commands += 1;
    }

    /// Creates the table unless it is there.
    pub fn add_table(&mut self) {
        self.command(msg::NEWTABLE, NLM_F_CREATE, |out, table| {
            out.text(NFTA_TABLE, table)
        });
    }

    /// Deletes the table with everything in it; it must be there.
    pub fn delete_table(&mut self) {
        self.command(msg::DELTABLE, 0, |out, table| out.text(NFTA_TABLE, table));
    }

    /// Creates a chain unless it is there.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.command(msg::NEWCHAIN, NLM_F_CREATE, |out, table| chain.encode(out, table));
    }

    /// Deletes a chain; nothing may lead to it any more. Its rules go with it.
    pub fn delete_chain(&mut self, name: &str) {
        self.flush_chain(name);
        self.command(msg::DELCHAIN, 0, |out, table| {
            out.text(NFTA_TABLE, table);
            out.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.command(msg::DELRULE, 0, |out, table| {
            out.text(NFTA_TABLE, table);
            out.text(NFTA_RULE_CHAIN, name);
        });
    }

    /// Creates a set or map unless it is there.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.command(msg::NEWSET, NLM_F_CREATE, |out, table| set.encode(out, table, id));
    }

    /// Deletes a set or map; no rule may use it any more.
    pub fn delete_set(&mut self, name: &str) {
        self.command(msg::DELSET, 0, |out, table| {
            out.text(NFTA_TABLE, table);
            out.text(NFTA_SET_NAME, name);
        });
    }

    /// Deletes all elements of a set or map.
    pub fn flush_set(&mut self, name: &str) {
        self.command(msg::DELSETELEM, 0, |out, table| {
            out.text(NFTA_TABLE, table);
            out.text(NFTA_SET_NAME, name);
        });
    }

    /// Adds elements. One that is there with the same data is left alone, one with other data refused.
    pub fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(msg::NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Deletes elements by their keys; each must be there.
    pub fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(msg::DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: impl IntoIterator<Item = Element>) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.begin(kind, flags);
            self.out.text(NFTA_TABLE, &self.table.name);
            self.out.text(NFTA_SET_NAME, set);
            let list = self.out.begin_nest(NFTA_SET_ELEM_LIST_ELEMENTS);
            while self.out.len() - list < ELEMENTS_PER_MESSAGE
                && let Some(element) = elements.next()
            {
                element.encode(&mut self.out);
            }
            self.out.end_nest(list);
            self.out.end(self.last);
        }
    }

    /// Adds a rule at the end of its chain.
    pub fn append_rule(&mut self, rule: &Rule) {
        self.command(msg::NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |out, table| {
            rule.encode(out, table)
        });
    }

    /// Deletes one rule by its handle.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.command(msg::DELRULE, 0, |out, table| {
            out.text(NFTA_TABLE, table);
            out.text(NFTA_RULE_CHAIN, chain);
            out.be64(NFTA_RULE_HANDLE, handle);
        });
    }

    /// The whole transaction as it is sent, its messages numbered from `first`.
    /// The number of the last command, which asks for an acknowledgement, is `first` + [`Batch::len`].
    pub(crate) fn datagram(&self, first: u32) -> Writer {
        let mut out = Writer::default();
        let begin = out.begin(
            NFNL_MSG_BATCH_BEGIN,
            NLM_F_REQUEST,
            first,
            0,
            NFNL_SUBSYS_NFTABLES,
        );
        if let Some(generation) = self.generation {
            out.be32(NFNL_BATCH_GENID, generation);
        }
        out.end(begin);
        let shift = out.len();
        out.extend(&self.out);
        let mut at = shift;
        for (number, message) in self.messages().enumerate() {
            out.set_seq(at, first + 1 + number as u32);
            at += crate::wire::align4(message.bytes.len());
        }
        out.add_flags(shift + self.last, NLM_F_ACK);
        let end = out.begin(
            NFNL_MSG_BATCH_END,
            NLM_F_REQUEST,
            first + self.commands + 1,
            0,
            NFNL_SUBSYS_NFTABLES,
        );
        out.end(end);
        out
    }

    fn messages(&self) -> Messages<'_> {
        Messages(self.out.bytes())
    }

    /// The command of this number (from zero) as text; with the offset of an attribute inside its message,
    /// the element there.
    pub(crate) fn describe(&self, number: usize, offset: Option<usize>) -> String {
        let Some(message) = self.messages().nth(number) else {
            return format!("command {number}");
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = fmt::write(
            &mut text,
            format_args!(
                "{}",
                Command {
                    table: &self.table,
                    message,
                    only: offset
                }
            ),
        );
        text
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for message in self.messages() {
            writeln!(
                f,
                "{}",
                Command {
                    table: &self.table,
                    message,
                    only: None
                }
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One encoded command, to be printed.
struct Command<'a> {
    table: &'a TableRef,
    message: Message<'a>,
    /// Print only the element at this offset in the message.
    only: Option<usize>,
}

impl Command<'_> {
    fn elements(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_elements = matches!(self.message.kind & 0xff, msg::NEWSETELEM | msg::DELSETELEM);
        let list = self
            .message
            .attrs()
            .get(NFTA_SET_ELEM_LIST_ELEMENTS)
            .filter(|_| has_elements);
        let Some(list) = list else { return Ok(()) };
        let base = self.message.bytes.as_ptr() as usize;
        let entries: Vec<&[u8]> = Attrs(list).into_iter().map(|(_, entry)| entry).collect();
        let start = |entry: &[u8]| entry.as_ptr() as usize - base - 4;
        let wanted = |entry: &&&[u8]| {
            self.only
                .is_none_or(|at| (start(entry)..start(entry) + entry.len() + 4).contains(&at))
        };
        let shown: Vec<String> = entries
            .iter()
            .filter(wanted)
            .filter_map(|entry| Element::decode(Attrs(entry)))
            .map(|(element, ends)| {
                if ends {
                    format!("end {element}")
                } else {
                    element.to_string()
                }
            })
            .collect();
        if shown.is_empty() {
            return write!(f, " {{ {} elements }}", entries.len());
        }
        write!(f, " {{ {} }}", shown.join(", "))
    }

    fn object(&self) -> String {
        let attrs = self.message.attrs();
        let name = |kind| attrs.text(kind).unwrap_or("?").to_owned();
        match self.message.kind & 0xff {
            msg::NEWCHAIN => Chain::decode(attrs).map(|chain| chain.to_string()),
            msg::NEWSET => Set::decode(attrs).map(|set| set.to_string()),
            msg::NEWRULE => Rule::decode(attrs).map(|rule| rule.to_string()),
            msg::DELRULE => Some(match attrs.be64(NFTA_RULE_HANDLE) {
                Some(handle) => format!("{} handle {handle}", name(NFTA_RULE_CHAIN)),
                None => name(NFTA_RULE_CHAIN),
            }),
            msg::DELCHAIN => Some(name(NFTA_CHAIN_NAME)),
            msg::DELSET | msg::NEWSETELEM | msg::DELSETELEM => Some(name(NFTA_SET_NAME)),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn verb(&self) -> &'static str {
        let attrs = self.message.attrs();
        match self.message.kind & 0xff {
            msg::NEWTABLE => "add table",
            msg::DELTABLE => "delete table",
            msg::NEWCHAIN => "add chain",
            msg::DELCHAIN => "delete chain",
            msg::NEWRULE => "add rule",
            msg::DELRULE if attrs.get(NFTA_RULE_HANDLE).is_some() => "delete rule",
            msg::DELRULE => "flush chain",
            msg::NEWSET => "add set",
            msg::DELSET => "delete set",
            msg::NEWSETELEM => "add element",
            msg::DELSETELEM if attrs.get(NFTA_SET_ELEM_LIST_ELEMENTS).is_some() => "delete element",
            msg::DELSETELEM => "flush set",
            _ => "unknown command",
        }
    }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb(), self.table)?;
        let object = self.object();
        if !object.is_empty() {
            write!(f, " {object}")?;
        }
        self.elements(f)
    }
}
