//! Random events, repeatable.

use knode_proxy::model::{Model, Name, Protocol, Service, Slice, SliceEndpoint, SlicePort, State};
pub use knode_testkit::Random;

use super::fixture::{cidr, service};

/// One random event; addresses and ports are few, so that Services get into each other's way.
pub fn event(random: &mut Random, model: &mut Model) -> Vec<Name> {
    if random.chance(5) {
        return model.set_zone([None, Some("z1"), Some("z2")][random.below(3) as usize]);
    }
    let name = format!("ns/s{}", random.below(6));
    if random.chance(40) {
        let service = random.chance(75).then(|| random_service(random));
        return model.set_service(&name, service).into_iter().collect();
    }
    let slice_name = format!("ns/slice{}", random.below(10));
    if random.chance(20) {
        return model.set_slice(&slice_name, None);
    }
    let slice = random_slice(random);
    model.set_slice(&slice_name, Some((&name, slice)))
}

fn protocol(random: &mut Random) -> Protocol {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][random.below(3) as usize]
}

fn random_service(random: &mut Random) -> Service {
    let ip = format!("10.96.0.{}", random.below(5));
    let node_port = if random.chance(60) {
        30000 + random.below(4) as u16
    } else {
        0
    };
    let mut service = service(&ip, protocol(random), 80 + random.below(2) as u16, node_port);
    service.affinity = random.chance(30).then(|| 100 + random.below(2) as u32);
    service.external_local = random.chance(30);
    service.internal_local = random.chance(20);
    if random.chance(30) {
        service.external_ips = [format!("192.0.2.{}", random.below(3)).parse().expect("ip")].into();
    }
    if random.chance(30) {
        service.balancer_ips = [format!("192.0.2.{}", random.below(5)).parse().expect("ip")].into();
        let nets = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"].map(cidr);
        service.sources = random
            .chance(60)
            .then(|| nets[..1 + random.below(3) as usize].into());
    }
    if random.chance(50) {
        let six = format!("fd10:96::{}", 1 + random.below(5)).parse().expect("ip");
        service.cluster_ips = [service.cluster_ips[0], six].into();
    }
    service
}

fn random_slice(random: &mut Random) -> Slice {
    let (protocol, count) = (protocol(random), random.below(5));
    let mut endpoint = || {
        let network = if random.chance(60) {
            "10.244."
        } else {
            "fd10:244::"
        };
        let separator = &network[network.len() - 1..];
        let ip = format!("{network}{}{separator}{}", random.below(2), random.below(6)).replace(":::", "::");
        let state = if random.chance(80) {
            State::Ready
        } else {
            State::Ending
        };
        let mut endpoint = SliceEndpoint::new(ip.parse().expect("ip"), state, random.chance(50));
        if random.chance(70) {
            endpoint.for_zones = Some([Box::from(["z1", "z2"][random.below(2) as usize])].into());
        }
        endpoint
    };
    let endpoints = (0..count).map(|_| endpoint()).collect();
    Slice {
        ports: [SlicePort {
            name: "p".into(),
            protocol,
            port: 8080,
        }]
        .into(),
        endpoints,
    }
}
