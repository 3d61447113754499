//! `/run/flannel/subnet.env`, which CNI plugins and `mk-docker-opts` read.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetFile {
    /// The pod network.
    pub network: Ipv4Net,
    /// The node's subnet.
    pub subnet: Ipv4Net,
    /// The IPv6 pod network and the node's subnet of it.
    pub ipv6: Option<(Ipv6Net, Ipv6Net)>,
    /// Largest packet on the overlay, bytes.
    pub mtu: u32,
    /// Packets that leave the pod network are masqueraded by the overlay.
    pub masquerade: bool,
}

/// Why a subnet file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the subnet file has no usable {0}")]
pub struct SubnetFileError(&'static str);

impl SubnetFile {
    /// Upstream's text, in upstream's order.
    pub fn render(&self) -> String {
        let first = Ipv4Addr::from(u32::from(self.subnet.network()).wrapping_add(1));
        let length = self.subnet.prefix_len();
        let mut text = format!(
            "FLANNEL_NETWORK={}\nFLANNEL_SUBNET={first}/{length}\n",
            self.network
        );
        if let Some((network, subnet)) = self.ipv6 {
            let first = Ipv6Addr::from(u128::from(subnet.network()).wrapping_add(1));
            let length = subnet.prefix_len();
            text += &format!("FLANNEL_IPV6_NETWORK={network}\nFLANNEL_IPV6_SUBNET={first}/{length}\n");
        }
        text + &format!("FLANNEL_MTU={}\nFLANNEL_IPMASQ={}\n", self.mtu, self.masquerade)
    }

    /// Reads such a text; unknown lines are passed over.
    ///
    /// # Errors
    /// [`SubnetFileError`] names the variable that is missing or wrong.
    pub fn parse(text: &str) -> std::result::Result<Self, SubnetFileError> {
        let get = |key: &'static str| {
            let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            value.ok_or(SubnetFileError(key))
        };
        let v4 = |key| get(key)?.parse().map_err(|_| SubnetFileError(key));
        let v6 = |key| get(key)?.parse().map_err(|_| SubnetFileError(key));
        let subnet: Ipv4Net = v4("FLANNEL_SUBNET")?;
        let ipv6 = match get("FLANNEL_IPV6_SUBNET") {
            Ok(_) => {
                let subnet: Ipv6Net = v6("FLANNEL_IPV6_SUBNET")?;
                Some((v6("FLANNEL_IPV6_NETWORK")?, subnet.trunc()))
            }
            Err(_) => None,
        };
        Ok(Self {
            network: v4("FLANNEL_NETWORK")?,
            subnet: subnet.trunc(),
            ipv6,
            mtu: get("FLANNEL_MTU")?
                .parse()
                .map_err(|_| SubnetFileError("FLANNEL_MTU"))?,
            masquerade: get("FLANNEL_IPMASQ")? == "true",
        })
    }

    /// Writes the file whole or not at all, and its directory when missing. A file that says so already is left alone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.render();
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
        }
        let next = path.with_extension("env.tmp");
        let written = fs::File::create(&next)
            .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
        written.map_err(Error::file("write", &next))?;
        fs::rename(&next, path).map_err(Error::file("replace", path))
    }

    /// Removes the file; none is no error.
    pub(crate) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> SubnetFile {
        SubnetFile {
            network: "172.30.0.0/16".parse().unwrap(),
            subnet: "172.30.65.0/24".parse().unwrap(),
            ipv6: None,
            mtu: 1450,
            masquerade: true,
        }
    }

    #[test]
    fn text_and_order_are_upstreams() {
        let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        assert_eq!(seed().render(), text);
        assert_eq!(SubnetFile::parse(text).unwrap(), seed());
    }

    #[test]
    fn dual_stack_has_upstreams_order_too() {
        let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\n\
                    FLANNEL_IPV6_NETWORK=fc00:1::/48\nFLANNEL_IPV6_SUBNET=fc00:1:0:41::1/64\n\
                    FLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n";
        let networks = ["fc00:1::/48", "fc00:1:0:41::/64"].map(|n| n.parse().unwrap());
        let dual = SubnetFile {
            ipv6: Some(networks.into()),
            mtu: 1430,
            masquerade: false,
            ..seed()
        };
        assert_eq!(dual.render(), text);
        assert_eq!(SubnetFile::parse(text).unwrap(), dual);
        let half = "FLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_IPV6_SUBNET=fc00::1/64\n";
        let error = SubnetFile::parse(half).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the subnet file has no usable FLANNEL_IPV6_NETWORK"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = SubnetFile::parse("FLANNEL_NETWORK=172.30.0.0/16\n").unwrap_err();
        assert_eq!(error.to_string(), "the subnet file has no usable FLANNEL_SUBNET");
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let directory = std::env::temp_dir().join(format!("knode-subnet-env-{}", std::process::id()));
        let path = directory.join("run/flannel/subnet.env");
        seed().write(&path).unwrap();
        SubnetFile { mtu: 1400, ..seed() }.write(&path).unwrap();
        assert_eq!(
            SubnetFile::parse(&fs::read_to_string(&path).unwrap())
                .unwrap()
                .mtu,
            1400
        );
        let names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["subnet.env"]);
        SubnetFile::remove(&path).unwrap();
        SubnetFile::remove(&path).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
