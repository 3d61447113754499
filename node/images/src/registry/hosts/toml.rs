//! Reading `hosts.toml` (containerd's documentation: `docs/hosts.md`). Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use toml_span::Value;
use toml_span::value::Table;

use super::file::{HostEntry, HostsFile};
use crate::registry::error::HostsError;

/// Reads the text of the file `path`, in whose directory relative names of certificates start.
pub(super) fn parse(text: &str, path: &Path) -> Result<HostsFile, HostsError> {
    let broken = |reason: String| HostsError::Toml {
        path: path.to_owned(),
        reason,
    };
    let root = toml_span::parse(text).map_err(|error| broken(error.to_string()))?;
    let table = root
        .as_table()
        .ok_or_else(|| broken("it is no table".to_owned()))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut server = Fields::new("", table, base).entry()?;
    server.url = Fields::new("", table, base).text("server")?.map(str::to_owned);
    let mut hosts = Vec::new();
    if let Some(value) = table.get("host") {
        let named = value
            .as_table()
            .ok_or_else(|| broken("\"host\" is no table".to_owned()))?;
        let mut entries: Vec<_> = named.iter().collect();
        // Mirrors are tried in the order of the file.
        entries.sort_by_key(|(key, _)| key.span.start);
        for (key, value) in entries {
            let table = value
                .as_table()
                .ok_or_else(|| broken(format!("host {:?} is no table", key.name)))?;
            hosts.push((key.name.to_string(), Fields::new(&key.name, table, base).entry()?));
        }
    }
    Ok(HostsFile { server, hosts })
}

/// The fields of one table, with what an error needs.
struct Fields<'a> {
    host: &'a str,
    table: &'a Table<'a>,
    base: &'a Path,
}

impl<'a> Fields<'a> {
    fn new(host: &'a str, table: &'a Table<'a>, base: &'a Path) -> Self {
        Self { host, table, base }
    }

    fn entry(&self) -> Result<HostEntry, HostsError> {
        let mut entry = HostEntry {
            override_path: self.flag("override_path")?,
            headers: self.headers()?,
            dial_timeout: self.duration("dial_timeout")?,
            ..HostEntry::default()
        };
        entry.tls.ca = self
            .texts("ca")?
            .into_iter()
            .map(|name| self.base.join(name))
            .collect();
        entry.tls.client = self.client()?;
        entry.tls.skip_verify = self.flag("skip_verify")?;
        let capabilities = self.texts("capabilities")?;
        if !capabilities.is_empty() {
            entry.pull = capabilities.contains(&"pull");
            entry.resolve = capabilities.contains(&"resolve");
            let known = ["pull", "resolve", "push", "referrers"];
            if let Some(unknown) = capabilities.iter().find(|name| !known.contains(name)) {
                return Err(self.invalid("capabilities", format!("{unknown:?} is unknown")));
            }
        }
        Ok(entry)
    }

    fn invalid(&self, field: &'static str, reason: impl Into<String>) -> HostsError {
        HostsError::Field {
            host: self.host.to_owned(),
            field,
            reason: reason.into(),
        }
    }

    fn text(&self, field: &'static str) -> Result<Option<&'a str>, HostsError> {
        let Some(value) = self.table.get(field) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some).ok_or_else(|| self.invalid(field, "not a string"))
    }

    fn flag(&self, field: &'static str) -> Result<bool, HostsError> {
        match self.table.get(field) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.invalid(field, "neither true nor false")),
        }
    }

    /// A string, or an array of strings.
    fn texts(&self, field: &'static str) -> Result<Vec<&'a str>, HostsError> {
        match self.table.get(field) {
            None => Ok(Vec::new()),
            Some(value) => {
                strings(value).ok_or_else(|| self.invalid(field, "not a string or an array of strings"))
            }
        }
    }

    /// `"both.pem"`, `["both.pem", …]` or `[["cert.pem", "key.pem"], …]`.
    fn client(&self) -> Result<Vec<(PathBuf, Option<PathBuf>)>, HostsError> {
        let pair = |value: &'a Value<'a>| {
            let names = strings(value)?;
            let file = |name: &&str| self.base.join(name);
            match names.as_slice() {
                [both] => Some((file(both), None)),
                [cert, ""] => Some((file(cert), None)),
                [cert, key] => Some((file(cert), Some(file(key)))),
                _ => None,
            }
        };
        let found = match self.table.get("client") {
            None => return Ok(Vec::new()),
            Some(value) => match value.as_array() {
                Some(values) => values.iter().map(pair).collect::<Option<Vec<_>>>(),
                None => pair(value).map(|one| vec![one]),
            },
        };
        found.ok_or_else(|| self.invalid("client", "not a file or pairs of certificate and key"))
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, HostsError> {
        let Some(value) = self.table.get("header") else {
            return Ok(Vec::new());
        };
        let invalid = |name: &str| self.invalid("header", format!("{name:?} cannot be sent"));
        let table = value
            .as_table()
            .ok_or_else(|| self.invalid("header", "not a table"))?;
        let mut headers = Vec::new();
        for (key, value) in table {
            let name: HeaderName = key.name.parse().map_err(|_| invalid(&key.name))?;
            for text in strings(value).ok_or_else(|| invalid(&key.name))? {
                let value: HeaderValue = text.parse().map_err(|_| invalid(&key.name))?;
                headers.push((name.clone(), value));
            }
        }
        Ok(headers)
    }

    /// Go's form of a duration with one unit: `10s`, `500ms`, `1m`.
    fn duration(&self, field: &'static str) -> Result<Option<Duration>, HostsError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(self.invalid(field, "not a number with the unit ms, s, m or h")),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| self.invalid(field, "not a number with a unit"))?;
        Ok(Some(Duration::from_millis(number.saturating_mul(unit))))
    }
}

fn strings<'a>(value: &'a Value<'a>) -> Option<Vec<&'a str>> {
    match value.as_array() {
        Some(values) => values.iter().map(Value::as_str).collect(),
        None => value.as_str().map(|text| vec![text]),
    }
}
