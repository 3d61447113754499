use std::path::Path;

use knode_netlink::{Handle, Tolerate, delete_link, delete_route};
use knode_nft::Socket;

use crate::config::{Backend, NetConf};
use crate::error::Error;
use crate::masquerade;
use crate::plan::is_direct_route;
use crate::subnet_file::SubnetFile;

/// Removes what the overlay left in the calling thread's namespace: device with its routes, plain routes, rules,
/// subnet file. Goes on after errors and returns them.
pub fn teardown(conf: &NetConf, subnet_file: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match Handle::open() {
        Ok(handle) => errors.extend(links_and_routes(&handle, conf)),
        Err(error) => errors.push(Error::netlink("open route netlink")(error)),
    }
    let rules = Socket::open().map_err(Error::nft("open nftables"));
    errors.extend(rules.and_then(|mut socket| masquerade::remove(&mut socket)).err());
    errors.extend(SubnetFile::remove(subnet_file).err());
    errors
}

fn links_and_routes(handle: &Handle, conf: &NetConf) -> Vec<Error> {
    let mut requests = Vec::new();
    if let Backend::Vxlan(vxlan) = &conf.backend {
        requests.push(delete_link(format!("flannel.{}", vxlan.vni).as_str()));
    }
    match handle.routes(None) {
        Ok(routes) => requests.extend(routes.iter().filter(|r| is_direct_route(r)).map(delete_route)),
        Err(error) => return vec![Error::netlink("read the host's routes")(error)],
    }
    match handle.execute_all(requests) {
        Ok(results) => {
            let failed = |r: knode_netlink::Result<()>| r.or_gone().err();
            results
                .into_iter()
                .filter_map(failed)
                .map(|e| Error::netlink("remove the overlay")(e))
                .collect()
        }
        Err(error) => vec![Error::netlink("remove the overlay")(error)],
    }
}
