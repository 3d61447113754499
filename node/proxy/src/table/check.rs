use super::Locality;
use crate::model::Model;

/// What is wrong with the pod networks, if a Service's cluster address lies in one of them: it is the service
/// network then, which some deployments name by mistake.
pub fn misplaced_cidr(model: &Model, locality: &Locality) -> Option<String> {
    let Locality::Cidrs(cidrs) = locality else {
        return None;
    };
    let services = model
        .names()
        .filter_map(|name| Some((name, model.get(name)?.service.as_ref()?)));
    let addresses = services.flat_map(|(name, service)| service.cluster_ips.iter().map(move |ip| (ip, name)));
    let inside = |ip| cidrs.iter().find(|cidr| cidr.contains(ip));
    // The lowest, mostly that of the API server: the same at each start.
    let all = addresses.filter_map(|(ip, name)| Some((ip, name, inside(ip)?)));
    let (ip, name, cidr) = all.min_by_key(|(ip, ..)| *ip)?;
    Some(format!(
        "the cluster CIDR {cidr} contains {ip} of the service {name}: it is the network of the services, not that \
         of the pods. Every connection of a pod to a service is masqueraded for it, and the endpoints see a node's \
         address as its source"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Service;

    #[test]
    fn a_service_range_given_as_cluster_cidr_is_noticed() {
        let mut model = Model::default();
        let service = Service {
            cluster_ips: ["10.254.0.1".parse().expect("ip")].into(),
            ..Service::default()
        };
        model.set_service("default/kubernetes", Some(service));
        let later = Service {
            cluster_ips: ["10.254.0.2".parse().expect("ip")].into(),
            ..Service::default()
        };
        for name in ["a/a", "z/z"] {
            model.set_service(name, Some(later.clone()));
        }
        let of = |cidr: &str| Locality::Cidrs(vec![cidr.parse().expect("cidr")]);
        let warning = misplaced_cidr(&model, &of("10.254.0.0/16")).expect("a warning");
        assert!(
            warning.contains("10.254.0.1 of the service default/kubernetes"),
            "{warning}"
        );
        assert_eq!(misplaced_cidr(&model, &of("172.30.0.0/16")), None);
    }
}
