//! Properties of units, as `StartTransientUnit` and `SetUnitProperties` take them. Pure.

use crate::Writer;

/// A property of a unit, by its D-Bus name (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name, for example `MemoryMax`.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// Values of the types that the properties used here have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `s`: for example `Slice`, `Description`.
    Text(String),
    /// `b`: for example `Delegate`, `DefaultDependencies`, the `…Accounting` ones.
    Bool(bool),
    /// `t`: for example `MemoryMax` in bytes, `CPUShares`, `TasksMax`; `u64::MAX` is "infinity".
    Number(u64),
    /// `as`: for example `Wants`, `Before`.
    Texts(Vec<String>),
    /// `a(ss)`: `DeviceAllow`.
    Pairs(Vec<(String, String)>),
    /// `au`: `PIDs`.
    Pids(Vec<u32>),
}

impl Property {
    /// A text.
    pub fn text(name: &'static str, value: impl Into<String>) -> Self {
        let value = Value::Text(value.into());
        Self { name, value }
    }

    /// A truth value.
    pub fn bool(name: &'static str, value: bool) -> Self {
        let value = Value::Bool(value);
        Self { name, value }
    }

    /// A number.
    pub fn number(name: &'static str, value: u64) -> Self {
        let value = Value::Number(value);
        Self { name, value }
    }

    /// Names of units.
    pub fn texts(name: &'static str, value: Vec<String>) -> Self {
        let value = Value::Texts(value);
        Self { name, value }
    }

    /// Pairs of texts.
    pub fn pairs(name: &'static str, value: Vec<(String, String)>) -> Self {
        let value = Value::Pairs(value);
        Self { name, value }
    }

    /// The processes that a scope begins with.
    pub fn pids(value: Vec<u32>) -> Self {
        let value = Value::Pids(value);
        Self { name: "PIDs", value }
    }
}

impl Value {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Text(text) => {
                out.signature("s");
                out.string(text);
            }
            Self::Bool(value) => {
                out.signature("b");
                out.u32(u32::from(*value));
            }
            Self::Number(value) => {
                out.signature("t");
                out.u64(*value);
            }
            Self::Texts(texts) => {
                out.signature("as");
                out.array(4, &mut |out| texts.iter().for_each(|text| out.string(text)));
            }
            Self::Pairs(pairs) => {
                out.signature("a(ss)");
                out.array(8, &mut |out| {
                    for (first, second) in pairs {
                        out.align(8);
                        out.string(first);
                        out.string(second);
                    }
                });
            }
            Self::Pids(pids) => {
                out.signature("au");
                out.array(4, &mut |out| pids.iter().for_each(|pid| out.u32(*pid)));
            }
        }
    }
}

/// Writes properties as `a(sv)`.
pub(super) fn write(properties: &[Property], out: &mut Writer) {
    out.array(8, &mut |out| {
        for property in properties {
            out.align(8);
            out.string(property.name);
            property.value.write(out);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As sd-bus marshals `a(sv)`: the length without the padding before the first element, every struct at eight.
    #[test]
    fn properties_are_laid_out_as_the_specification_says() {
        let mut out = Writer::default();
        write(
            &[
                Property::bool("Delegate", true),
                Property::pids(vec![7, 8]),
                Property::number("TasksMax", 5),
            ],
            &mut out,
        );
        // A list's length does not count the padding before its first element.
        assert_eq!(&out.0[4..28], b"\0\0\0\0\x08\0\0\0Delegate\0\x01b\0\x01\0\0\0");
        let mut reader = crate::Reader { bytes: &out.0, at: 0 };
        let length = usize::try_from(reader.u32().unwrap()).unwrap();
        assert_eq!(8 + length, out.0.len());
        reader.align(8);
        assert_eq!(reader.string().unwrap(), "Delegate");
        assert_eq!(reader.signature().unwrap(), "b");
        assert_eq!(reader.u32().unwrap(), 1);
        reader.align(8);
        assert_eq!(reader.string().unwrap(), "PIDs");
        assert_eq!(reader.signature().unwrap(), "au");
        let pids = [(); 3].map(|()| reader.u32().unwrap());
        assert_eq!(pids, [8, 7, 8]);
        reader.align(8);
        assert_eq!(reader.string().unwrap(), "TasksMax");
        assert_eq!(reader.signature().unwrap(), "t");
        assert_eq!(reader.u64().unwrap(), 5);
        assert_eq!(reader.at, out.0.len());
    }

    #[test]
    fn an_empty_list_is_only_its_length_and_padding() {
        let mut out = Writer::default();
        out.string("x");
        write(&[], &mut out);
        assert_eq!(out.0, b"\x01\0\0\0x\0\0\0\0\0\0\0\0\0\0\0");
    }
}
