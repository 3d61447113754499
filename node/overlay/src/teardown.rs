use std::path::Path;

use knode_netlink::{Handle, Tolerate, delete_link, delete_route};
use knode_nft::{Family, Socket};

use crate::config::NetConf;
use crate::error::Error;
use crate::iptables;
use crate::masquerade;
use crate::plan::{device_names, is_blackhole, is_direct_route};
use crate::subnet_file::SubnetFile;

/// Removes what the overlay left in the calling thread's namespace: device with its routes, plain routes, rules,
/// subnet file. Goes on after errors and returns them.
pub fn teardown(conf: &NetConf, subnet_file: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match Handle::open() {
        Ok(handle) => errors.extend(links_and_routes(&handle, conf)),
        Err(error) => errors.push(Error::netlink("open route netlink")(error)),
    }
    match Socket::open() {
        Ok(mut socket) => {
            let families = [Family::Ip, Family::Ip6].into_iter();
            errors.extend(families.filter_map(|family| masquerade::remove(&mut socket, family).err()));
            errors.extend(iptables::remove(&mut socket).err());
        }
        Err(error) => errors.push(Error::nft("open nftables")(error)),
    }
    errors.extend(SubnetFile::remove(subnet_file).err());
    errors
}

fn links_and_routes(handle: &Handle, conf: &NetConf) -> Vec<Error> {
    let mut requests: Vec<_> = device_names(conf)
        .iter()
        .map(|name| delete_link(name.as_str()))
        .collect();
    let nowhere = [false, true].map(|ipv6| handle.blackholes(ipv6));
    for found in nowhere {
        match found {
            Ok(routes) => requests.extend(routes.iter().filter(|r| is_blackhole(r)).map(delete_route)),
            Err(error) => return vec![Error::netlink("read the host's routes")(error)],
        }
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
