use ipnet::IpNet;
use knode_nft::iptables::{self, Programs};
use knode_nft::{IpFamily, Policy, Socket, TableRef};

use super::plan;
use crate::error::{Error, Result};

const TABLE: &str = "filter";

/// One of the two iptables that a host can have, for a family.
#[derive(Clone, Copy)]
struct Tool {
    family: IpFamily,
    legacy: bool,
}

/// Lets a pod network's packets pass where the host's iptables would drop them. In the calling thread's namespace.
///
/// # Errors
/// [`Error::Iptables`], [`Error::Nft`]. A host without the tool is warned about.
pub(crate) fn accept(socket: &mut Socket, network: IpNet) -> Result<()> {
    let family = IpFamily::of(network.addr());
    for tool in [false, true].map(|legacy| Tool { family, legacy }) {
        if tool.may_drop(socket)? {
            let Some((programs, saved)) = tool.save()? else {
                let [tool, _] = tool.programs();
                let tool = tool.name();
                tracing::warn!(
                    tool,
                    "the host's iptables may drop what is forwarded, and there is no such tool to look"
                );
                continue;
            };
            if let Some(commands) = plan::accept(&saved, network) {
                let program = programs.name();
                tracing::info!(%network, program, "the host's iptables drop what is forwarded; the pod network is excepted");
                restore(&programs, &commands)?;
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
    let tools = |family| [false, true].map(|legacy| Tool { family, legacy });
    for tool in IpFamily::ALL.into_iter().flat_map(tools) {
        // Without the tool nothing can have been made.
        if tool.has_chain(socket)?
            && let Some((programs, saved)) = tool.save()?
            && let Some(commands) = plan::remove(&saved)
        {
            restore(&programs, &commands)?;
        }
    }
    Ok(())
}

/// Whether a table is that of iptables' filters.
pub(crate) fn is_filter(table: &TableRef) -> bool {
    let mut tables = IpFamily::ALL.map(filters).into_iter();
    tables.any(|filters| *table == filters)
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
        let table = filters(self.family);
        if !socket.has_table(&table).map_err(failed())? {
            return Ok(Vec::new());
        }
        let chains = socket.chains(&table).map_err(failed())?;
        let known = chains.into_iter().filter_map(|listed| listed.object.ok());
        Ok(known.map(|c| (c.name, c.hook.map(|h| h.policy))).collect())
    }

    fn is_legacy_in_use(self) -> bool {
        let file = match self.family {
            IpFamily::V4 => "ip_tables_names",
            IpFamily::V6 => "ip6_tables_names",
        };
        let path = format!("/proc/thread-self/net/{file}");
        // A kernel without the legacy kind has no such file.
        let names = std::fs::read_to_string(path).unwrap_or_default();
        names.lines().any(|name| name == TABLE)
    }

    /// What the tool can be called: where there is but one kind, it has the plain name.
    fn programs(self) -> [Programs; 2] {
        let kind = if self.legacy { "-legacy" } else { "-nft" };
        [kind, ""].map(|variant| Programs::of(self.family, variant))
    }

    /// The programs that are there, with what they say; `None` when there are none.
    fn save(self) -> Result<Option<(Programs, String)>> {
        for programs in self.programs() {
            match programs.save_now(Some(TABLE)) {
                Err(iptables::Error::Missing { .. }) => {}
                said => return said.map(|said| Some((programs, said))).map_err(Error::Iptables),
            }
        }
        Ok(None)
    }
}

fn restore(programs: &Programs, commands: &str) -> Result<()> {
    programs.restore_now(commands).map_err(Error::Iptables)
}

fn filters(family: IpFamily) -> TableRef {
    TableRef::new(family.into(), TABLE)
}
