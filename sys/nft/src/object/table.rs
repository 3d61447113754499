use std::fmt;

/// The address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Any other, by its number.
    Other(u8),
}

impl Family {
    /// `NFPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }

    /// The family with this `NFPROTO_*`.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ip,
            10 => Self::Ip6,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet => f.write_str("inet"),
            Self::Ip => f.write_str("ip"),
            Self::Ip6 => f.write_str("ip6"),
            Self::Other(number) => write!(f, "family-{number}"),
        }
    }
}

/// A table by family and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableRef {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
}

impl TableRef {
    /// A table by family and name.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
        }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}
