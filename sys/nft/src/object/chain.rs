use std::fmt;

use super::NFTA_TABLE;
use crate::wire::{Attrs, Writer};

pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;

/// Where in the packet's way a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// Delivered to this host.
    Input,
    /// Passing through.
    Forward,
    /// Sent by this host.
    Output,
    /// Leaving.
    Postrouting,
}

impl Hook {
    const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    fn name(self) -> &'static str {
        ["prerouting", "input", "forward", "output", "postrouting"][self as usize]
    }
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Judge packets.
    Filter,
    /// Set up address translation; sees only the first packet of a connection.
    Nat,
    /// Change packets before they are routed again.
    Route,
}

impl ChainKind {
    fn name(self) -> &'static str {
        ["filter", "nat", "route"][self as usize]
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Filter, Self::Nat, Self::Route]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What a base chain does with packets that no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Let them pass.
    Accept,
    /// Discard them.
    Drop,
}

/// How a base chain is hooked in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HookSpec {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it sits.
    pub hook: Hook,
    /// Its place among the chains of the hook, lowest first (`dstnat` is -100, `srcnat` 100).
    pub priority: i32,
    /// What becomes of packets that no rule decided.
    pub policy: Policy,
}

/// A chain, with its hook if it is a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Its hook; `None` for a chain that is only jumped to.
    pub hook: Option<HookSpec>,
}

impl Chain {
    /// A chain that is jumped to.
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            hook: None,
        }
    }

    /// A base chain with policy accept.
    pub fn base(name: impl Into<String>, kind: ChainKind, hook: Hook, priority: i32) -> Self {
        let hook = HookSpec {
            kind,
            hook,
            priority,
            policy: Policy::Accept,
        };
        Self {
            name: name.into(),
            hook: Some(hook),
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer, table: &str) {
        out.text(NFTA_TABLE, table);
        out.text(NFTA_CHAIN_NAME, &self.name);
        let Some(spec) = &self.hook else { return };
        out.nest(NFTA_CHAIN_HOOK, |out| {
            out.be32(NFTA_HOOK_HOOKNUM, spec.hook as u32);
            out.be32(NFTA_HOOK_PRIORITY, spec.priority as u32);
        });
        out.be32(NFTA_CHAIN_POLICY, u32::from(spec.policy == Policy::Accept));
        out.text(NFTA_CHAIN_TYPE, spec.kind.name());
    }

    /// `None` for a chain whose hook this crate does not model.
    pub(crate) fn decode(attrs: Attrs<'_>) -> Option<Self> {
        let name = attrs.text(NFTA_CHAIN_NAME)?.to_owned();
        let Some(hook) = attrs.nested(NFTA_CHAIN_HOOK) else {
            return Some(Self { name, hook: None });
        };
        let spec = HookSpec {
            kind: ChainKind::from_name(attrs.text(NFTA_CHAIN_TYPE)?)?,
            hook: *Hook::ALL.get(hook.be32(NFTA_HOOK_HOOKNUM)? as usize)?,
            priority: hook.be32(NFTA_HOOK_PRIORITY)? as i32,
            policy: if attrs.be32(NFTA_CHAIN_POLICY) == Some(0) {
                Policy::Drop
            } else {
                Policy::Accept
            },
        };
        Some(Self {
            name,
            hook: Some(spec),
        })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        let Some(spec) = &self.hook else { return Ok(()) };
        let policy = if spec.policy == Policy::Accept {
            "accept"
        } else {
            "drop"
        };
        let (kind, hook) = (spec.kind.name(), spec.hook.name());
        write!(
            f,
            " {{ type {kind} hook {hook} priority {}; policy {policy}; }}",
            spec.priority
        )
    }
}
