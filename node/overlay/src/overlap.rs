//! Whether the cluster's networks can live beside those of the host; pure.

use std::fmt;

use ipnet::IpNet;

/// A route of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNet,
    /// Name of the link.
    pub link: String,
}

/// Two networks that would take each other's packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod CIDR {pods} overlaps {with}")]
pub struct Overlap {
    /// The pod network.
    pub pods: IpNet,
    /// The other.
    pub with: Other,
}

/// With what the pod network overlaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Other {
    /// The service network.
    Services(IpNet),
    /// A route of the host.
    Route(HostRoute),
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Services(net) => write!(f, "the service CIDR {net}"),
            Self::Route(route) => write!(
                f,
                "the host's route to {} through {}",
                route.destination, route.link
            ),
        }
    }
}

/// Checks a pod network against the service networks and the host's routes; networks of two families never overlap.
/// Default routes and routes through knode's own links (`cni0`, `flannel.*`, pods' cables) are no obstacle.
///
/// # Errors
/// The first [`Overlap`], the service networks' before the routes'.
pub fn check_overlap(pods: IpNet, services: &[IpNet], routes: &[HostRoute]) -> Result<(), Overlap> {
    if let Some(services) = services.iter().find(|services| overlap(pods, **services)) {
        return Err(Overlap {
            pods,
            with: Other::Services(*services),
        });
    }
    let obstacle =
        |r: &&HostRoute| r.destination.prefix_len() > 0 && !is_ours(&r.link) && overlap(pods, r.destination);
    match routes.iter().find(obstacle) {
        Some(route) => Err(Overlap {
            pods,
            with: Other::Route(route.clone()),
        }),
        None => Ok(()),
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn is_ours(link: &str) -> bool {
    link == "cni0" || link.starts_with("flannel.") || link.starts_with("flannel-v6.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pods: &str, services: &str, routes: &[(&str, &str)]) -> Result<(), String> {
        let route = |(net, link): &(&str, &str)| HostRoute {
            destination: net.parse().unwrap(),
            link: (*link).into(),
        };
        let routes: Vec<_> = routes.iter().map(route).collect();
        let services: Vec<_> = services.split(',').map(|net| net.parse().unwrap()).collect();
        check_overlap(pods.parse().unwrap(), &services, &routes).map_err(|e| e.to_string())
    }

    #[test]
    fn neighbours_are_fine() {
        let routes = [
            ("0.0.0.0/0", "eth0"),
            ("172.31.0.0/16", "eth0"),
            ("172.30.0.0/24", "cni0"),
            ("172.30.1.0/24", "flannel.1"),
        ];
        assert_eq!(check("172.30.0.0/16", "10.254.0.0/16", &routes), Ok(()));
    }

    #[test]
    fn each_overlap_names_both() {
        assert_eq!(
            check("10.0.0.0/8", "10.254.0.0/16", &[]).unwrap_err(),
            "pod CIDR 10.0.0.0/8 overlaps the service CIDR 10.254.0.0/16"
        );
        assert_eq!(
            check("172.30.0.0/16", "10.254.0.0/16", &[("172.30.9.0/24", "eth1")]).unwrap_err(),
            "pod CIDR 172.30.0.0/16 overlaps the host's route to 172.30.9.0/24 through eth1"
        );
        assert!(check("172.30.0.0/16", "10.254.0.0/16", &[("172.16.0.0/12", "eth1")]).is_err());
    }

    #[test]
    fn ipv6_networks_overlap_among_themselves() {
        let services = "10.254.0.0/16,fd00:254::/112";
        let routes = [
            ("::/0", "eth0"),
            ("fe80::/64", "eth0"),
            ("fd00:30::/64", "cni0"),
            ("fd00:30:0:1::/64", "flannel-v6.1"),
        ];
        assert_eq!(check("fd00:30::/48", services, &routes), Ok(()));
        assert_eq!(
            check("fd00::/16", services, &[]).unwrap_err(),
            "pod CIDR fd00::/16 overlaps the service CIDR fd00:254::/112"
        );
        assert_eq!(
            check("fd00:30::/48", services, &[("fd00:30:0:9::/64", "eth1")]).unwrap_err(),
            "pod CIDR fd00:30::/48 overlaps the host's route to fd00:30:0:9::/64 through eth1"
        );
    }
}
