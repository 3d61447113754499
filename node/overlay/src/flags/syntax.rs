//! Flags as Go's package `flag` reads them; pure.

use std::collections::BTreeMap;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false; true when it stands alone.
    Bool,
    /// The last value counts.
    Text,
    /// All values count.
    List,
}

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
}

/// Why a command line is refused; in the words of Go's package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A flag without its value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// A value that makes no sense.
    #[error("invalid value {value:?} for flag -{flag}: {problem}")]
    Invalid {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `-h` or `-help`.
    #[error("help requested")]
    Help,
}

/// The values that were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<&'static str, Vec<String>>);

impl Values {
    /// Reads the arguments, then for flags that they leave out the environment: `<prefix>_` and the flag's name in
    /// capitals with underscores. Returns what is left over too.
    pub fn parse(
        flags: &'static [Flag],
        args: &[String],
        env: impl Fn(&str) -> Option<String>,
        prefix: &str,
    ) -> Result<(Self, Vec<String>), FlagError> {
        let mut values = Self::default();
        let mut args = args.iter();
        let mut rest = Vec::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            match name {
                Some("") if arg == "--" => break,
                Some(name) if !name.is_empty() => values.flag(flags, name, &mut args)?,
                _ => {
                    rest.push(arg.clone());
                    break;
                }
            }
        }
        rest.extend(args.cloned());
        for flag in flags.iter() {
            let key = format!("{prefix}_{}", flag.name.replace('-', "_").to_uppercase());
            if let Some(value) = env(&key).filter(|v| !v.is_empty() && !values.0.contains_key(flag.name)) {
                values.set(flag, &value)?;
            }
        }
        Ok((values, rest))
    }

    fn flag<'a>(
        &mut self,
        flags: &'static [Flag],
        name: &str,
        args: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), FlagError> {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(flag) = flags.iter().find(|f| f.name == name) else {
            return Err(match name {
                "h" | "help" => FlagError::Help,
                _ => FlagError::Unknown(name.to_owned()),
            });
        };
        match (value, flag.kind) {
            (Some(value), _) => self.set(flag, value),
            (None, Kind::Bool) => self.set(flag, "true"),
            (None, _) => {
                let value = args.next().ok_or_else(|| FlagError::NoValue(name.to_owned()))?;
                self.set(flag, value)
            }
        }
    }

    fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), FlagError> {
        if flag.kind == Kind::Bool {
            boolean(value).ok_or_else(|| invalid(flag.name, value, "parse error"))?;
        }
        let values = self.0.entry(flag.name).or_default();
        if flag.kind != Kind::List {
            values.clear();
        }
        values.push(value.to_owned());
        Ok(())
    }

    /// The value of a flag, or its default.
    pub fn text<'a>(&'a self, flags: &'static [Flag], name: &str) -> &'a str {
        let given = self.0.get(name).and_then(|v| v.last());
        let default = || flags.iter().find(|f| f.name == name).map_or("", |f| f.default);
        given.map_or_else(default, String::as_str)
    }

    /// Whether a flag is true.
    pub fn is(&self, flags: &'static [Flag], name: &str) -> bool {
        boolean(self.text(flags, name)).unwrap_or(false)
    }

    /// All values of a flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// What to print on `-help`.
pub(super) fn usage(program: &str, flags: &[Flag]) -> String {
    let mut text = format!("Usage: {program} [OPTION]...\n");
    for flag in flags {
        let kind = match flag.kind {
            Kind::Bool => "",
            Kind::Text => " value",
            Kind::List => " value (may be repeated)",
        };
        text.push_str(&format!("  -{}{kind}\n    \t{}", flag.name, flag.help));
        if !flag.default.is_empty() && flag.default != "false" {
            text.push_str(&format!(" (default {:?})", flag.default));
        }
        text.push('\n');
    }
    text
}

pub(super) fn invalid(flag: &str, value: &str, problem: impl Into<String>) -> FlagError {
    FlagError::Invalid {
        flag: flag.to_owned(),
        value: value.to_owned(),
        problem: problem.into(),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
