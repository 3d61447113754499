//! The files that make a service of the binary, as `packaging/` has them; the Debian package holds the same ones.

/// A unit and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the unit.
    pub unit: &'static str,
    /// File of its environment, below `/etc/default`.
    pub environment: &'static str,
    /// Whether pods run below it.
    pub pods: bool,
    template: &'static str,
    environment_template: &'static str,
}

/// The service of `knode up`, `node` and `join`.
pub const NODE: Service = Service {
    unit: "knode.service",
    environment: "knode",
    pods: true,
    template: include_str!("../../../../packaging/systemd/knode.service"),
    environment_template: include_str!("../../../../packaging/default/knode"),
};

/// The service of `knode server`, which needs no privilege.
pub const SERVER: Service = Service {
    unit: "knode-server.service",
    environment: "knode-server",
    pods: false,
    template: include_str!("../../../../packaging/systemd/knode-server.service"),
    environment_template: include_str!("../../../../packaging/default/knode-server"),
};

/// The service with this unit.
pub fn by_unit(unit: &str) -> Service {
    if unit == SERVER.unit { SERVER } else { NODE }
}

/// Kernel settings, `sysctl.d(5)`.
pub const SYSCTLS: &str = include_str!("../../../../packaging/sysctl.d/90-knode.conf");
/// Kernel modules, `modules-load.d(5)`.
pub const MODULES: &str = include_str!("../../../../packaging/modules-load.d/knode.conf");

impl Service {
    /// The unit for a binary, a data directory and a configuration directory.
    pub fn unit(&self, binary: &str, data: &str, config: &str) -> String {
        self.template
            .replace("@BINARY@", binary)
            .replace("@DATA@", data)
            .replace("@CONFIG@", config)
    }

    /// The environment file for these arguments.
    pub fn environment(&self, arguments: &str) -> String {
        self.environment_template.replace("@ARGS@", arguments)
    }
}

/// The settings as keys (with dots) and values.
pub fn settings() -> Vec<(&'static str, &'static str)> {
    SYSCTLS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.trim_start_matches('-').split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        for service in [NODE, SERVER] {
            let unit = service.unit("/usr/local/bin/knode", "/var/lib/knode", "/etc/knode");
            assert!(!unit.contains('@') || !unit.contains("@BINARY@"), "{unit}");
            assert!(!unit.contains("@DATA@") && !unit.contains("@CONFIG@"), "{unit}");
            let said = service.environment("up --node-name a");
            assert!(said.contains("=\"up --node-name a\"\n"), "{said}");
        }
    }

    #[test]
    fn settings_are_keys_and_values() {
        let all = settings();
        assert!(all.contains(&("net.ipv4.ip_forward", "1")));
        assert!(all.contains(&("net.bridge.bridge-nf-call-iptables", "1")));
    }
}
