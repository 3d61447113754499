use std::fmt;

use super::NFTA_TABLE;
use crate::expr::Expr;
use crate::wire::{Attrs, Writer};

pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const UDATA_COMMENT: u8 = 0;
const COMMENT_MAX: usize = 127;

/// A rule of a chain: expressions evaluated in order until one says no.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The chain it stands in.
    pub chain: String,
    /// What it does.
    pub exprs: Vec<Expr>,
    /// A remark for readers of `nft list`, at most 127 bytes.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(chain: impl Into<String>, exprs: impl Into<Vec<Expr>>) -> Self {
        Self {
            chain: chain.into(),
            exprs: exprs.into(),
            comment: None,
        }
    }

    /// The same rule with a comment.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    pub(crate) fn encode(&self, out: &mut Writer, table: &str) {
        out.text(NFTA_TABLE, table);
        out.text(NFTA_RULE_CHAIN, &self.chain);
        out.nest(NFTA_RULE_EXPRESSIONS, |out| {
            for expr in &self.exprs {
                expr.encode(out);
            }
        });
        if let Some(comment) = &self.comment {
            out.attr(NFTA_RULE_USERDATA, &comment_udata(comment));
        }
    }

    pub(crate) fn decode(attrs: Attrs<'_>) -> Option<Self> {
        let exprs = attrs.nested(NFTA_RULE_EXPRESSIONS).map(|list| {
            list.into_iter()
                .map(|(_, expr)| Expr::decode(Attrs(expr)))
                .collect()
        });
        Some(Self {
            chain: attrs.text(NFTA_RULE_CHAIN)?.to_owned(),
            exprs: exprs.unwrap_or_default(),
            comment: attrs.get(NFTA_RULE_USERDATA).and_then(read_comment),
        })
    }
}

/// libnftnl's user data: type, length, value with its NUL.
fn comment_udata(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(COMMENT_MAX);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut udata = vec![UDATA_COMMENT, (end + 1) as u8];
    udata.extend_from_slice(&comment.as_bytes()[..end]);
    udata.push(0);
    udata
}

fn read_comment(udata: &[u8]) -> Option<String> {
    let [UDATA_COMMENT, length, rest @ ..] = udata else {
        return None;
    };
    crate::wire::text(rest.get(..usize::from(*length))?).map(str::to_owned)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain)?;
        for expr in &self.exprs {
            write!(f, " [ {expr} ]")?;
        }
        self.comment
            .as_ref()
            .map_or(Ok(()), |comment| write!(f, " comment {comment:?}"))
    }
}
