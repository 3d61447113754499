//! The form of command lines, as pflag reads them.

use serde_json::Value;

use super::table::{self, Target};
use super::{Command, CommandLine, Own, value};
use crate::schema::{self, Field, Kind};
use crate::{Error, Result, file};

/// Understands a command line without the program's name.
///
/// # Errors
/// [`Error`], naming the flag.
pub fn parse(args: &[String]) -> Result<CommandLine> {
    let mut line = CommandLine::default();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let (name, value) = split(word)?;
        if table::find(&name).is_none() {
            return Err(Error::UnknownFlag(name));
        }
        let value = match value {
            Some(value) => value.to_owned(),
            None if is_switch(&name) => "true".to_owned(),
            None => match args.next() {
                Some(value) => value.clone(),
                None => return Err(Error::NoValue(name)),
            },
        };
        set(&mut line, &name, &value)?;
    }
    Ok(line)
}

/// The flag's name with dashes, and the value behind an equals sign. Only `-v` and `-h` are short.
fn split(word: &str) -> Result<(String, Option<&str>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if name.is_empty() {
            return Err(Error::Argument(word.to_owned()));
        }
        return Ok((name.replace('_', "-"), value));
    }
    let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) else {
        return Err(Error::Argument(word.to_owned()));
    };
    let value = |rest: &'static str| {
        let value = &short[rest.len()..];
        (!value.is_empty()).then(|| value.strip_prefix('=').unwrap_or(value))
    };
    match short.chars().next() {
        Some('h') if short == "h" => Ok(("help".into(), None)),
        Some('v') if short == "v" || short[1..].starts_with(|c: char| c == '=' || c.is_ascii_digit()) => {
            Ok(("v".into(), value("v")))
        }
        letter => Err(Error::UnknownShorthand {
            letter: letter.unwrap_or('-'),
            argument: word.to_owned(),
        }),
    }
}

/// Flags that may stand without a value, and never take the next word for one.
fn is_switch(name: &str) -> bool {
    match table::find(name) {
        Some(Target::Field(path)) => schema::find(path).is_some_and(|field| matches!(field.kind, Kind::Bool)),
        Some(Target::Alias(name)) => is_switch(name),
        Some(
            Target::Help
            | Target::Version
            | Target::NoEffectSwitch(_)
            | Target::DockerSwitch
            | Target::OnlyTrue(_)
            | Target::OnlyFalse(_),
        ) => true,
        _ => false,
    }
}

/// Takes one flag with its value.
pub(super) fn set(line: &mut CommandLine, name: &str, text: &str) -> Result<()> {
    let target = table::find(name).ok_or_else(|| Error::UnknownFlag(name.to_owned()))?;
    match target {
        Target::Field(path) => set_field(line, name, path, text)?,
        Target::Own(own) => set_own(line, own, text),
        Target::Help => line.command = asked(name, text, line.command, Command::Help)?,
        // `--version=raw` asks for more.
        Target::Version if text == "raw" => line.command = Command::Version,
        Target::Version => line.command = asked(name, text, line.command, Command::Version)?,
        Target::Alias(today) => {
            line.warnings.push(format!("--{name} is --{today} today"));
            set(line, today, text)?;
        }
        Target::NoEffect(reason) | Target::NoEffectSwitch(reason) => {
            line.warnings.push(format!("--{name} has no effect: {reason}"));
        }
        Target::OnlyTrue(reason) => only(line, name, text, true, reason)?,
        Target::OnlyFalse(reason) => only(line, name, text, false, reason)?,
        // The other values of --container-runtime were rkt and remote.
        Target::Docker if text == "rkt" => return Err(removed(name, "give --container-runtime-endpoint")),
        Target::Docker if name == "container-runtime" && text == "remote" => {
            line.warnings
                .push(format!("--{name}={text} has no effect: it is always so"));
        }
        Target::Docker | Target::DockerSwitch => line.docker.push(format!("--{name}")),
        Target::Removed(instead) => return Err(removed(name, instead)),
        Target::Unsupported(_) if text.is_empty() => {}
        Target::Unsupported(reason) => {
            return Err(Error::UnsupportedFlag {
                flag: name.to_owned(),
                reason,
            });
        }
    }
    Ok(())
}

fn removed(name: &str, instead: &'static str) -> Error {
    Error::Removed {
        flag: name.to_owned(),
        instead,
    }
}

fn asked(name: &str, text: &str, now: Command, wanted: Command) -> Result<Command> {
    let yes = value::switch(text).map_err(|problem| wrong(name, text, problem))?;
    Ok(if yes { wanted } else { now })
}

/// A switch that can only have one value any more.
fn only(line: &mut CommandLine, name: &str, text: &str, good: bool, reason: &'static str) -> Result<()> {
    let value = value::switch(text).map_err(|problem| wrong(name, text, problem))?;
    if value != good {
        return Err(removed(&format!("{name}={value}"), reason));
    }
    line.warnings
        .push(format!("--{name}={value} has no effect: {reason}"));
    Ok(())
}

fn set_own(line: &mut CommandLine, own: Own, text: &str) {
    match line.own.get_mut(&own) {
        // Labels of several flags are put together.
        Some(earlier) if own == Own::NodeLabels && !earlier.is_empty() => {
            earlier.push(',');
            earlier.push_str(text);
        }
        _ => {
            line.own.insert(own, text.to_owned());
        }
    }
}

pub(super) fn set_field(line: &mut CommandLine, name: &str, path: &str, text: &str) -> Result<()> {
    let field = schema::find(path).ok_or_else(|| Error::UnknownFlag(name.to_owned()))?;
    let read = value::read(field, name, text).map_err(|problem| wrong(name, text, problem))?;
    check(field, &read, path, name)?;
    match line.fields.get_mut(path) {
        Some((earlier, _)) if value::adds(field) => value::add(earlier, read),
        _ => {
            line.fields.insert(path.to_owned(), (read, name.to_owned()));
        }
    }
    Ok(())
}

fn check(field: &Field, read: &Value, path: &str, name: &str) -> Result<()> {
    file::check_value(field, read, path, &format!("--{name}"))
}

fn wrong(flag: &str, value: &str, problem: String) -> Error {
    Error::FlagValue {
        flag: flag.to_owned(),
        value: value.to_owned(),
        problem,
    }
}
