use std::fmt;

use crate::wire::{Attrs, Writer};

const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Stop here and let it pass this hook.
    Accept,
    /// Discard it.
    Drop,
    /// Go on with the next rule.
    Continue,
    /// Back to the calling chain.
    Return,
    /// Call a chain.
    Jump(String),
    /// Go to a chain without coming back.
    Goto(String),
}

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Continue => -1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.be32(NFTA_VERDICT_CODE, self.code() as u32);
        if let Some(chain) = self.chain() {
            out.text(NFTA_VERDICT_CHAIN, chain);
        }
    }

    pub(crate) fn decode(attrs: Attrs<'_>) -> Option<Self> {
        let chain = || attrs.text(NFTA_VERDICT_CHAIN).map(str::to_owned);
        match attrs.be32(NFTA_VERDICT_CODE)? as i32 {
            0 => Some(Self::Drop),
            1 => Some(Self::Accept),
            -1 => Some(Self::Continue),
            -3 => chain().map(Self::Jump),
            -4 => chain().map(Self::Goto),
            -5 => Some(Self::Return),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}
