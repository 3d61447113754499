use hickory_proto::rr::Name;

/// The part of a name before the zone's own: lower case, labels separated by dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relative(String);

impl Relative {
    /// `None` for names outside the zone, and for labels that no object can have.
    pub fn of(name: &Name, origin: &Name) -> Option<Self> {
        if !origin.zone_of(name) {
            return None;
        }
        let count = usize::from(name.num_labels()).saturating_sub(usize::from(origin.num_labels()));
        let mut text = String::with_capacity(name.len());
        for label in name.iter().take(count) {
            let label = std::str::from_utf8(label)
                .ok()
                .filter(|label| !label.contains('.'));
            if !text.is_empty() {
                text.push('.');
            }
            // A label that is no text is kept as one that matches nothing.
            text.push_str(label.unwrap_or("\\"));
        }
        text.make_ascii_lowercase();
        Some(Self(text))
    }

    /// What it may name (CoreDNS: `parseRequest`).
    pub fn path(&self) -> Path<'_> {
        if self.0.is_empty() {
            return Path::Exists;
        }
        let mut labels = self.0.rsplit('.');
        let kind = match labels.next() {
            Some("svc") => Kind::Service,
            Some("pod") => Kind::Pod,
            Some("dns-version") if self.0 == "dns-version" => return Path::Version,
            Some("dns") if self.0 == "ns.dns" => return Path::NameServer,
            Some("dns") if self.0 == "dns" => return Path::Exists,
            _ => return Path::Nothing,
        };
        let Some(namespace) = labels.next() else {
            return Path::Exists;
        };
        let Some(name) = labels.next() else {
            return Path::Namespace(namespace);
        };
        let filter = match (labels.next(), labels.next(), labels.next()) {
            (None, _, _) => Filter::None,
            (Some(endpoint), None, _) => Filter::Endpoint(endpoint),
            (Some(protocol), Some(port), None) => Filter::Port {
                port: bare(port),
                protocol: bare(protocol),
            },
            _ => return Path::Nothing,
        };
        match kind {
            Kind::Pod => Path::Pod { namespace, name },
            Kind::Service => Path::Service {
                namespace,
                name,
                filter,
            },
        }
    }
}

enum Kind {
    Service,
    Pod,
}

/// As CoreDNS, the underscore of a port or protocol may be missing.
fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

/// What a name within the zone may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path<'a> {
    /// A name that is there without records of its own: the zone, `svc`, `pod`.
    Exists,
    /// `dns-version`.
    Version,
    /// `ns.dns`.
    NameServer,
    /// `NAMESPACE.svc` or `NAMESPACE.pod`.
    Namespace(&'a str),
    /// `ADDRESS.NAMESPACE.pod`.
    Pod { namespace: &'a str, name: &'a str },
    /// `SERVICE.NAMESPACE.svc`, with something before it.
    Service {
        namespace: &'a str,
        name: &'a str,
        filter: Filter<'a>,
    },
    /// Nothing there can be.
    Nothing,
}

/// What is asked for of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter<'a> {
    /// All of it.
    None,
    /// One endpoint.
    Endpoint(&'a str),
    /// One port.
    Port { port: &'a str, protocol: &'a str },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Path<'_>) {
        let name = Name::from_ascii(name).expect("a name");
        let origin = Name::from_ascii("Cluster.local.").expect("a name");
        let relative = Relative::of(&name, &origin).expect("within the zone");
        assert_eq!(relative.path(), expected, "{name}");
    }

    #[test]
    fn names_are_taken_apart() {
        let service = |filter| Path::Service {
            namespace: "ns",
            name: "web",
            filter,
        };
        let port = Filter::Port {
            port: "http",
            protocol: "tcp",
        };
        check("cluster.local.", Path::Exists);
        check("svc.cluster.local.", Path::Exists);
        check("ns.pod.cluster.local.", Path::Namespace("ns"));
        check("WEB.Ns.Svc.CLUSTER.local.", service(Filter::None));
        check("web.ns.svc.cluster.local.", service(Filter::None));
        check("a-0.web.ns.svc.cluster.local.", service(Filter::Endpoint("a-0")));
        check("_http._tcp.web.ns.svc.cluster.local.", service(port));
        check("http.tcp.web.ns.svc.cluster.local.", service(port));
        check("x._http._tcp.web.ns.svc.cluster.local.", Path::Nothing);
        check("web.ns.other.cluster.local.", Path::Nothing);
        check("dns-version.cluster.local.", Path::Version);
        check("x.dns-version.cluster.local.", Path::Nothing);
        check("ns.dns.cluster.local.", Path::NameServer);
        check("a\\.b.svc.cluster.local.", Path::Namespace("\\"));
        let pod = Path::Pod {
            namespace: "ns",
            name: "10-0-0-1",
        };
        check("10-0-0-1.ns.pod.cluster.local.", pod);
    }
}
