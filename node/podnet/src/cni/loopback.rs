//! The plugin `loopback`, which some engines call for every container before any other.

use knode_netlink::{Handle, LinkChange, Netns, change_link};

use super::answer;
use super::call::{Call, Command};
use super::error::CniError;
use crate::error::Error;

/// Its type in configurations.
pub(super) const TYPE: &str = "loopback";

/// Sets the container's loopback up; there is nothing to take back.
pub(super) fn execute(call: &Call) -> Result<String, CniError> {
    match &call.command {
        Command::Add(attached) => {
            let netns = attached.netns.clone().unwrap_or_default();
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            let failed = || Error::netlink(format!("set {} up", attached.interface));
            let handle = inside(&netns).map_err(failed())?;
            let request = change_link(attached.interface.as_str(), &up);
            handle.execute(request).map_err(failed())?;
            Ok(answer::loopback(&call.conf, &attached.interface, &netns).to_string())
        }
        Command::Check(attached) => {
            let failed = || Error::netlink(format!("look at {}", attached.interface));
            let netns = attached.netns.clone().unwrap_or_default();
            let handle = inside(&netns).map_err(failed())?;
            let link = handle.link(attached.interface.as_str()).map_err(failed())?;
            match link {
                Some(link) if link.up => Ok(String::new()),
                Some(_) => Err(CniError::new(CniError::FAILED, "the loopback is down")),
                None => Err(CniError::new(CniError::FAILED, "the loopback is gone")),
            }
        }
        Command::Version => Ok(answer::versions(&call.conf.cni_version).to_string()),
        Command::Delete(_) | Command::Gc | Command::Status => Ok(String::new()),
    }
}

fn inside(netns: &std::path::Path) -> knode_netlink::Result<Handle> {
    Handle::open_in(&Netns::open(netns)?)
}
