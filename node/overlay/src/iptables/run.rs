use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use ipnet::IpNet;
use knode_nft::{Family, Policy, Socket, TableRef};

use super::plan;
use crate::error::{Error, Result};

const TABLE: &str = "filter";
/// Seconds to wait for others who are changing iptables.
const WAIT: &str = "5";

/// One of the two iptables that a host can have, for a family.
#[derive(Clone, Copy)]
struct Tool {
    v6: bool,
    legacy: bool,
}

/// Lets a pod network's packets pass where the host's iptables would drop them. In the calling thread's namespace.
///
/// # Errors
/// [`Error::Command`], [`Error::CommandStart`]. A host without the tool is warned about.
pub(crate) fn accept(socket: &mut Socket, network: IpNet) -> Result<()> {
    let v6 = network.addr().is_ipv6();
    for tool in [false, true].map(|legacy| Tool { v6, legacy }) {
        if tool.may_drop(socket)? {
            let Some((program, saved)) = tool.save()? else {
                let tool = tool.programs()[0];
                tracing::warn!(
                    tool,
                    "the host's iptables may drop what is forwarded, and there is no such tool to look"
                );
                continue;
            };
            if let Some(commands) = plan::accept(&saved, network) {
                tracing::info!(%network, program, "the host's iptables drop what is forwarded; the pod network is excepted");
                restore(program, &commands)?;
            }
        }
    }
    Ok(())
}

/// Takes away what [`accept`] made in both families.
///
/// # Errors
/// As [`accept`].
pub(crate) fn remove(socket: &mut Socket) -> Result<()> {
    let tools = [(false, false), (false, true), (true, false), (true, true)];
    for tool in tools.map(|(v6, legacy)| Tool { v6, legacy }) {
        // Without the tool nothing can have been made.
        if tool.has_chain(socket)?
            && let Some((program, saved)) = tool.save()?
            && let Some(commands) = plan::remove(&saved)
        {
            restore(program, &commands)?;
        }
    }
    Ok(())
}

/// Whether a table is that of iptables' filters.
pub(crate) fn is_filter(table: &TableRef) -> bool {
    let families = [Family::Ip, Family::Ip6];
    families
        .iter()
        .any(|family| *table == TableRef::new(*family, TABLE))
}

impl Tool {
    /// Whether the policy may be to drop. Only for the legacy kind the tool itself has to be asked.
    fn may_drop(self, socket: &mut Socket) -> Result<bool> {
        if self.legacy {
            return Ok(self.is_legacy_in_use());
        }
        let chains = self.chains(socket)?;
        let drops =
            |(name, policy): &(String, Option<Policy>)| name == "FORWARD" && *policy == Some(Policy::Drop);
        Ok(chains.iter().any(drops))
    }

    fn has_chain(self, socket: &mut Socket) -> Result<bool> {
        if self.legacy {
            return Ok(self.is_legacy_in_use());
        }
        Ok(self.chains(socket)?.iter().any(|(name, _)| name == plan::CHAIN))
    }

    /// The names and policies of the chains of nftables' kind.
    fn chains(self, socket: &mut Socket) -> Result<Vec<(String, Option<Policy>)>> {
        let failed = || Error::nft("look at the host's filters");
        let family = if self.v6 { Family::Ip6 } else { Family::Ip };
        let table = TableRef::new(family, TABLE);
        if !socket.has_table(&table).map_err(failed())? {
            return Ok(Vec::new());
        }
        let chains = socket.chains(&table).map_err(failed())?;
        let known = chains.into_iter().filter_map(|listed| listed.object.ok());
        Ok(known.map(|c| (c.name, c.hook.map(|h| h.policy))).collect())
    }

    fn is_legacy_in_use(self) -> bool {
        let file = if self.v6 {
            "ip6_tables_names"
        } else {
            "ip_tables_names"
        };
        let path = format!("/proc/thread-self/net/{file}");
        // A kernel without the legacy kind has no such file.
        let names = std::fs::read_to_string(path).unwrap_or_default();
        names.lines().any(|name| name == TABLE)
    }

    /// What the tool can be called: where there is but one kind, it has the plain name.
    fn programs(self) -> [&'static str; 2] {
        match (self.v6, self.legacy) {
            (false, false) => ["iptables-nft", "iptables"],
            (false, true) => ["iptables-legacy", "iptables"],
            (true, false) => ["ip6tables-nft", "ip6tables"],
            (true, true) => ["ip6tables-legacy", "ip6tables"],
        }
    }

    /// The program that is there, with what it says; `None` when there is none.
    fn save(self) -> Result<Option<(&'static str, String)>> {
        for program in self.programs() {
            let name = format!("{program}-save");
            let output = Command::new(&name)
                .args(["-t", TABLE])
                .stdin(Stdio::null())
                .output();
            match output {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                output => return finished(&name, output).map(|said| Some((program, said))),
            }
        }
        Ok(None)
    }
}

fn restore(program: &str, commands: &str) -> Result<()> {
    let name = format!("{program}-restore");
    let run = || -> std::io::Result<Output> {
        let mut child = Command::new(&name)
            .args(["--noflush", "--wait", WAIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // A program that refuses the commands stops reading; what it says tells why.
            let _ = input.write_all(commands.as_bytes());
        }
        child.wait_with_output()
    };
    finished(&name, run()).map(drop)
}

/// What a program printed, if it succeeded.
fn finished(command: &str, output: std::io::Result<Output>) -> Result<String> {
    let command = command.to_owned();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Error::Command {
            command,
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
        Err(source) => Err(Error::CommandStart { command, source }),
    }
}
