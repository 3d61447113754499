//! Files of variables that a container takes its environment from (upstream: `pkg/util/env`). A subset of the shell's
//! syntax: `NAME='value'`, the value as it stands, over several lines if need be; comments after `#`.

use std::io::Read;
use std::path::Path;

use knode_linux::openat::RootDir;

/// What is read of a file at most, in bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// Upstream's largest key and value, in bytes.
const LARGEST_KEY: usize = 128;
const LARGEST_VALUE: usize = 32 * 1024;

/// Reads a file of a volume, which symbolic links cannot lead out of.
///
/// # Errors
/// Why it cannot be read, for a person.
pub(crate) fn read(volume: &Path, path: &str) -> Result<String, String> {
    let failed =
        |error: std::io::Error| format!("failed to open environment variable file {path:?}: {error}");
    let root = RootDir::open(volume).map_err(failed)?;
    let file = root.open_file(Path::new(path)).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!(
            "environment variable file {path:?} is not a regular file"
        ));
    }
    let mut text = String::new();
    let size = file
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    match size as u64 > LARGEST_FILE {
        true => Err(format!("environment variable file {path:?} is larger than 1 MiB")),
        false => Ok(text),
    }
}

/// The value of `key`; none if the file has none, or an empty one.
///
/// # Errors
/// What is wrong with a line up to the key's, in upstream's words; a key or value that is too long.
pub(crate) fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    if key.len() > LARGEST_KEY {
        return Err(format!(
            "environment variable key {key:?} exceeds maximum length of {LARGEST_KEY} characters"
        ));
    }
    let found = find(text, key)?;
    match found {
        Some(value) if value.len() > LARGEST_VALUE => Err(format!(
            "environment variable value for key {key:?} exceeds maximum size of 32KB"
        )),
        found => Ok(found.filter(|value| !value.is_empty())),
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what: &str| format!("invalid environment variable format at line {number}: {what}");
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("missing '='"))?;
        match name.trim_end_matches(BLANK) {
            "" => return Err(wrong("empty variable name")),
            trimmed if trimmed != name => return Err(wrong("whitespace before '=' is not allowed")),
            _ => {}
        }
        if value.starts_with(BLANK) {
            // As in the shell: the variable is empty, what follows is another word.
            match name == key {
                true => return Ok(None),
                false => continue,
            }
        }
        let mut rest = value
            .strip_prefix('\'')
            .ok_or_else(|| wrong("value must be enclosed in single quotes"))?;
        let mut whole = String::new();
        loop {
            if let Some((last, after)) = rest.split_once('\'') {
                whole.push_str(last);
                let after = after.trim_start_matches(BLANK);
                if !after.is_empty() && !after.starts_with('#') {
                    return Err(wrong("unexpected content after closing quote"));
                }
                break;
            }
            whole.push_str(rest);
            whole.push('\n');
            rest = lines.next().map(|(line, _)| line).ok_or_else(|| {
                format!(
                    "invalid environment variable format starting at line {number}: unclosed single quote"
                )
            })?;
        }
        if name == key {
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_single_quotes() {
        let text = "# first\n\n  A='one' # said\nB='two\nlines'\nEMPTY= 'x'\nNONE=''\nC='a=b \\n \"'\n";
        for (key, wanted) in [
            ("A", Some("one")),
            ("B", Some("two\nlines")),
            ("C", Some("a=b \\n \"")),
            ("EMPTY", None),
            ("NONE", None),
            ("missing", None),
        ] {
            assert_eq!(value(text, key).unwrap().as_deref(), wanted, "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, words) in [
            ("\nA", "at line 2: missing '='"),
            ("='x'", "at line 1: empty variable name"),
            ("A ='x'", "at line 1: whitespace before '=' is not allowed"),
            ("A=x", "at line 1: value must be enclosed in single quotes"),
            ("A='x'y", "at line 1: unexpected content after closing quote"),
            ("A='x\nB", "starting at line 1: unclosed single quote"),
        ] {
            let error = value(text, "Z").unwrap_err();
            assert!(error.ends_with(words), "{error}");
        }
        assert!(value("", &"k".repeat(129)).is_err());
        assert!(value(&format!("A='{}'", "v".repeat(32 * 1024 + 1)), "A").is_err());
    }
}
