//! Showing certificates with what is left of their lives.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use knode_pki::inventory::{Found, Inventory, scan};
use knode_pki::{Certificate, Usage, rotation};
use serde::Serialize;

use super::cli::ShowArgs;
use crate::layout::Layout;
use crate::output::TableFormat;

/// One certificate as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub file: String,
    pub subject: String,
    pub groups: Vec<String>,
    pub r#use: &'static str,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub seconds_left: i64,
    /// The file of the authority that signed it; none if that was not found.
    pub authority: Option<String>,
    /// `ok`, `due`, `expired`, `not yet valid`, or what is wrong with the key.
    pub state: String,
}

/// Text for the terminal, and whether everything is good.
pub fn show(args: &ShowArgs, now: Timestamp) -> anyhow::Result<(String, bool)> {
    let inventory = scan(&paths(args))?;
    let rows = rows(&inventory, now);
    let good = inventory.broken.is_empty() && rows.iter().all(|row| row.state == "ok" || row.state == "due");
    let text = match args.output {
        TableFormat::Json => serde_json::to_string_pretty(&rows)? + "\n",
        TableFormat::Table => table(&rows),
    };
    for (file, why) in &inventory.broken {
        eprintln!("knode: {}: {why}", file.display());
    }
    Ok((text, good))
}

fn paths(args: &ShowArgs) -> Vec<PathBuf> {
    if !args.paths.is_empty() {
        return args.paths.clone();
    }
    let layout = Layout::new(&args.data_dir);
    let usual = [
        PathBuf::from("/etc/kubernetes"),
        PathBuf::from("/etc/knode"),
        layout.pki_dir(),
        layout.cert_dir(),
    ];
    usual.into_iter().filter(|path| path.exists()).collect()
}

/// What is shown of an inventory; pure.
pub fn rows(inventory: &Inventory, now: Timestamp) -> Vec<Row> {
    let authorities: Vec<&Found> = inventory.found.iter().filter(|f| f.certificate.is_ca).collect();
    let row = |found: &Found| {
        let certificate = &found.certificate;
        let signer = authorities.iter().find(|a| certificate.signed_by(&a.certificate));
        let names = &certificate.names;
        let ips = names.ips.iter().map(ToString::to_string);
        Row {
            file: found.file.display().to_string(),
            subject: certificate.subject.common_name.clone(),
            groups: certificate.subject.organizations.clone(),
            r#use: purpose(certificate),
            names: names.dns.iter().cloned().chain(ips).collect(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            seconds_left: certificate.not_after.duration_since(now).as_secs(),
            authority: signer.map(|a| a.file.display().to_string()),
            state: state(found, now),
        }
    };
    inventory.found.iter().map(row).collect()
}

fn purpose(certificate: &Certificate) -> &'static str {
    let (server, client) = (
        certificate.usages.contains(&Usage::ServerAuth),
        certificate.usages.contains(&Usage::ClientAuth),
    );
    match (certificate.is_ca, server, client) {
        (true, ..) => "authority",
        (_, true, true) => "server, client",
        (_, true, false) => "server",
        (_, false, true) => "client",
        _ => "other",
    }
}

fn state(found: &Found, now: Timestamp) -> String {
    let certificate = &found.certificate;
    if let Some(fault) = &found.fault {
        return fault.clone();
    }
    if now >= certificate.not_after {
        return "expired".to_owned();
    }
    if now < certificate.not_before {
        return "not yet valid".to_owned();
    }
    let due = rotation::deadline(certificate.not_before, certificate.not_after, 0.0);
    if now < due { "ok" } else { "due" }.to_owned()
}

fn table(rows: &[Row]) -> String {
    let head = ["FILE", "SUBJECT", "USE", "EXPIRES", "LEFT", "AUTHORITY", "STATE"].map(str::to_owned);
    let line = |row: &Row| {
        [
            row.file.clone(),
            row.subject.clone(),
            row.r#use.to_owned(),
            row.not_after.to_string(),
            left(row.seconds_left),
            row.authority.clone().unwrap_or_else(|| "-".to_owned()),
            row.state.clone(),
        ]
    };
    let lines: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|l| l[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A time as kubectl shortens it, in its largest unit.
fn left(seconds: i64) -> String {
    let left = SignedDuration::from_secs(seconds);
    match (left.as_hours() / 24, left.as_hours(), left.as_mins()) {
        _ if seconds <= 0 => "-".to_owned(),
        (days, ..) if days > 730 => format!("{}y", days / 365),
        (days, ..) if days > 2 => format!("{days}d"),
        (_, hours, _) if hours > 2 => format!("{hours}h"),
        (.., minutes) if minutes > 2 => format!("{minutes}m"),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use knode_pki::{CertificateAuthority, Profile, Subject};

    use super::*;

    fn found(file: &str, pem: &str) -> Found {
        Found {
            file: file.into(),
            kubeconfig: false,
            certificate: Certificate::from_pem(pem).unwrap(),
            key: None,
            fault: None,
        }
    }

    #[test]
    fn the_table_tells_ends_authorities_and_states() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let hour = SignedDuration::from_hours(1);
        let ca = CertificateAuthority::create("kubernetes", now - 30 * hour).unwrap();
        let stranger = CertificateAuthority::create("kubernetes", now).unwrap();
        let day = Duration::from_secs(86_400);
        let client = |ca: &CertificateAuthority, ago: i32| {
            let profile = Profile::client(Subject::new("alice", &["g"]), day);
            ca.issue(&profile, now - ago * hour).unwrap().cert_pem
        };
        let inventory = Inventory {
            found: vec![
                found("ca.pem", ca.cert_pem()),
                found("new.pem", &client(&ca, 0)),
                found("due.pem", &client(&ca, 20)),
                found("old.pem", &client(&ca, 25)),
                found("early.pem", &client(&ca, -1)),
                found("other.pem", &client(&stranger, 0)),
            ],
            ..Inventory::default()
        };
        let rows = rows(&inventory, now);
        let states: Vec<&str> = rows.iter().map(|r| r.state.as_str()).collect();
        assert_eq!(states, ["ok", "ok", "due", "expired", "not yet valid", "ok"]);
        assert_eq!(rows[1].authority.as_deref(), Some("ca.pem"));
        assert_eq!(rows[5].authority, None);
        assert_eq!((rows[0].r#use, rows[1].r#use), ("authority", "client"));
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("FILE") && lines[0].ends_with("STATE"),
            "{text}"
        );
        assert!(lines[2].contains("2026-01-02T00:00:00Z  24h"), "{text}");
    }
}
