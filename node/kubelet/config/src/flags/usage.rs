use std::fmt::Write;

use super::table::{FIELDS, OWN};
use crate::schema::{self, Kind, Support};

/// The flags that mean something, one a line.
pub fn usage() -> String {
    let mut text = String::from(
        "The kubelet: runs the pods of this node.\n\nUsage: kubelet [flags]\n\n\
         Flags of KubeletConfiguration (kubelet.config.k8s.io/v1beta1), each with its field:\n",
    );
    for (flag, path) in FIELDS {
        let Some(field) = schema::find(path) else { continue };
        if matches!(field.support, Support::NoEffect(_)) {
            continue;
        }
        let default = match field.default {
            "" => String::new(),
            default => format!(" (default {default})"),
        };
        line(&mut text, flag, &format!("{}  {path}{default}", form(field.kind)));
    }
    text.push_str("\nOthers:\n");
    for (flag, _, help) in OWN {
        line(&mut text, flag, help);
    }
    line(&mut text, "help", "this list");
    line(&mut text, "version", "the version");
    text.push_str(
        "\nFlags that upstream's kubelet had since 1.6 are taken too, or refused with what to use today.\n",
    );
    text
}

fn line(text: &mut String, flag: &str, rest: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "  --{flag} {rest}");
}

fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "[=true|false]",
        Kind::Int(..) | Kind::Share => "N",
        Kind::Duration | Kind::Interval => "DURATION",
        Kind::Quantity => "SIZE",
        Kind::Ip => "IP",
        Kind::Ips => "IP,...",
        Kind::Texts => "TEXT,...",
        Kind::Ints => "N,...",
        Kind::Objects(_) => "KEY=VALUE:EFFECT,...",
        Kind::TextMap | Kind::BoolMap | Kind::TextsMap => "NAME=VALUE,...",
        Kind::Text | Kind::Choice(_) | Kind::Object(_) => "TEXT",
    }
}
