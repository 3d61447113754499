//! The machine's name.

use crate::doctor::facts::{Facts, Host};
use crate::doctor::finding::Finding;

pub fn check(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    vec![name(host), stable(host), resolvable(host)]
}

/// The node is called by it, lower case, unless --node-name says otherwise.
fn name(host: &Host) -> Finding {
    let (check, name) = ("host name", host.name.as_str());
    let lower = name.to_lowercase();
    let label = |label: &str| {
        let inner = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if lower.split('.').next() == Some("localhost") || lower == "(none)" {
        let mend = "give the machine a name of its own (hostnamectl set-hostname NAME), or use --node-name";
        return Finding::fail(check, format!("{name}: every machine is called so"), mend);
    }
    if lower.len() > 253 || !lower.split('.').all(label) {
        let found = format!("{name} is no name for a node (letters, digits, - and . only)");
        return Finding::fail(check, found, "use --node-name, or another host name");
    }
    if lower != name {
        let found = format!("{name}; the node is called {lower}");
        return Finding::warn(check, found, format!("hostnamectl set-hostname {lower}"));
    }
    Finding::ok(check, name)
}

/// A node that is called otherwise after a reboot is another node.
fn stable(host: &Host) -> Finding {
    let check = "host name stable";
    match host.kept.as_deref() {
        Some(kept) if kept == host.name => Finding::ok(check, "/etc/hostname has it"),
        Some(kept) => Finding::warn(
            check,
            format!("{} now, {kept} after the next boot (/etc/hostname)", host.name),
            format!("echo {} > /etc/hostname, or use --node-name", host.name),
        ),
        None => Finding::warn(
            check,
            "/etc/hostname does not say it: it may be another one after the next boot",
            format!("echo {} > /etc/hostname, or use --node-name", host.name),
        ),
    }
}

fn resolvable(host: &Host) -> Finding {
    let check = "host name resolves";
    let hosts = |address: &str| format!("echo '{address} {}' >> /etc/hosts", host.name);
    let own = host.addresses.iter().find(|ip| !ip.is_loopback());
    let own = own.map_or("ADDRESS".to_owned(), ToString::to_string);
    match &host.resolved {
        Err(error) => Finding::warn(check, format!("{} does not: {error}", host.name), hosts(&own)),
        Ok(found) if found.is_empty() => {
            Finding::warn(check, format!("{} has no address", host.name), hosts(&own))
        }
        Ok(found) => {
            let listed: Vec<String> = found.iter().map(ToString::to_string).collect();
            let foreign = found
                .iter()
                .find(|ip| !ip.is_loopback() && !host.addresses.contains(ip));
            match foreign {
                Some(foreign) => Finding::warn(
                    check,
                    format!("{} is {foreign}, which is no address of this machine", host.name),
                    hosts(&own),
                ),
                None => Finding::ok(check, listed.join(", ")),
            }
        }
    }
}
