//! One value, or one of each address family: networks and addresses as options give them.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value, or one of each address family, the primary first. Written with a comma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual<T> {
    primary: T,
    secondary: Option<T>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of a value.
    pub fn of(value: &impl InFamily) -> Self {
        value.family()
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What belongs to one address family.
pub trait InFamily: Copy + Display + FromStr {
    /// What a person must write, with its article.
    const WHAT: &'static str;

    /// Which one.
    fn family(&self) -> Family;
}

impl InFamily for IpNet {
    const WHAT: &'static str = "a network, such as 172.30.0.0/16 or fd00:30::/48";

    fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }
}

impl InFamily for IpAddr {
    const WHAT: &'static str = "an address, such as 192.0.2.1 or 2001:db8::1";

    fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }
}

/// Why a text is no such value or pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DualError {
    #[error("{text:?} is not {what}")]
    Parse { text: String, what: &'static str },
    #[error("{0:?} has more than two values: at most one of each address family")]
    TooMany(String),
    #[error("{one} and {other} are both {family}: of two values one must be IPv4 and the other IPv6")]
    OneFamily {
        one: String,
        other: String,
        family: Family,
    },
}

impl<T: InFamily> Dual<T> {
    /// One value alone.
    pub fn single(primary: T) -> Self {
        Self {
            primary,
            secondary: None,
        }
    }

    /// The first value, and the first one of the other family beside it; `None` of none.
    pub fn first_of_each(values: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut values = values.into_iter();
        let primary = values.next()?;
        let secondary = values.find(|value| value.family() != primary.family());
        Some(Self { primary, secondary })
    }

    /// The value of the primary family.
    pub fn primary(&self) -> T {
        self.primary
    }

    /// The values, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        [Some(self.primary), self.secondary].into_iter().flatten()
    }

    /// The value of a family.
    pub fn of(&self, family: Family) -> Option<T> {
        self.iter().find(|value| value.family() == family)
    }

    /// The families, the primary first.
    pub fn families(&self) -> Vec<Family> {
        self.iter().map(|value| value.family()).collect()
    }
}

impl Dual<IpNet> {
    /// The IPv4 network.
    pub fn v4(&self) -> Option<Ipv4Net> {
        self.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// The IPv6 network.
    pub fn v6(&self) -> Option<Ipv6Net> {
        self.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        })
    }
}

impl Dual<IpAddr> {
    /// The IPv4 address.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }

    /// The IPv6 address.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.iter().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    }
}

impl<T: InFamily> FromStr for Dual<T> {
    type Err = DualError;

    fn from_str(text: &str) -> Result<Self, DualError> {
        let parse = |part: &str| {
            part.trim().parse().map_err(|_| DualError::Parse {
                text: part.to_owned(),
                what: T::WHAT,
            })
        };
        let parts: Vec<T> = text.split(',').map(parse).collect::<Result<_, _>>()?;
        match *parts.as_slice() {
            [primary] => Ok(Self::single(primary)),
            [one, other] if one.family() == other.family() => Err(DualError::OneFamily {
                one: one.to_string(),
                other: other.to_string(),
                family: one.family(),
            }),
            [primary, secondary] => Ok(Self {
                primary,
                secondary: Some(secondary),
            }),
            _ => Err(DualError::TooMany(text.to_owned())),
        }
    }
}

impl<T: InFamily> Display for Dual<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.primary.fmt(f)?;
        match &self.secondary {
            Some(secondary) => write!(f, ",{secondary}"),
            None => Ok(()),
        }
    }
}

impl<T: InFamily> Serialize for Dual<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: InFamily> Deserialize<'de> for Dual<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Dual<IpNet>>().unwrap_err().to_string()
    }

    #[test]
    fn one_or_one_of_each_family_in_any_order() {
        let one: Dual<IpNet> = "172.30.0.0/16".parse().unwrap();
        assert_eq!((one.v6(), one.to_string().as_str()), (None, "172.30.0.0/16"));
        let two: Dual<IpNet> = "fd00:30::/48, 172.30.0.0/16".parse().unwrap();
        assert_eq!(two.primary().to_string(), "fd00:30::/48");
        assert_eq!(two.v4().unwrap().to_string(), "172.30.0.0/16");
        assert_eq!(two.to_string(), "fd00:30::/48,172.30.0.0/16");
        let kept = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<Dual<IpNet>>(&kept).unwrap(), two);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            error("172.30.0.0/16,here"),
            "\"here\" is not a network, such as 172.30.0.0/16 or fd00:30::/48"
        );
        assert_eq!(
            error("172.30.0.0/16,10.0.0.0/8"),
            "172.30.0.0/16 and 10.0.0.0/8 are both IPv4: of two values one must be IPv4 and the other IPv6"
        );
        assert!(error("10.0.0.0/8,fd00::/48,fd01::/48").contains("more than two values"));
        assert!("192.0.2.1,::1".parse::<Dual<IpAddr>>().is_ok());
    }
}
