//! The same Services as kube-proxy 1.36 lays them out in its nftables mode, loaded by `nft -f`: a chain and an
//! anonymous map a Service, a chain an endpoint. (Layout: kubernetes `pkg/proxy/nftables`.) Its own program lists
//! the whole table at every sync besides, which is not measured here.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::objects::{self, Cluster, PODS, PORT, TARGET_PORT, cluster_ip, endpoint_ips, node_port};
use crate::packets;
use crate::report::{Report, shown};

const WHOSE: &str = "upstream's layout";
const ROUNDS: u32 = 20;

/// What the table has without any Service.
const SKELETON: &str = "\
add table ip kube-proxy
add set ip kube-proxy cluster-ips { type ipv4_addr ; }
add set ip kube-proxy nodeport-ips { type ipv4_addr ; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; }
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110 ; }
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110 ; }
add chain ip kube-proxy filter-input { type filter hook input priority 0 ; }
add chain ip kube-proxy filter-forward { type filter hook forward priority 0 ; }
add chain ip kube-proxy filter-output { type filter hook output priority 0 ; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100 ; }
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy masquerading
add chain ip kube-proxy firewall-check
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy service-endpoints-check
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy services
add rule ip kube-proxy mark-for-masquerade mark set mark or 0x4000
add rule ip kube-proxy masquerading mark and 0x4000 == 0 return
add rule ip kube-proxy masquerading mark set mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
";

/// Loads the file, adds Services to it, connects through it.
pub fn measure(cluster: &Cluster, report: &mut Report) {
    let mut text = SKELETON.to_owned();
    for number in 0..cluster.services {
        add_service(&mut text, number, cluster.endpoints);
    }
    report.note(&format!("{WHOSE}: nft -f, cold"), shown(load(&text)));
    let one_more = (cluster.services..cluster.services + ROUNDS).map(|number| {
        let mut text = String::new();
        add_service(&mut text, number, objects::ENDPOINTS);
        load(&text)
    });
    report.spread(
        &format!("{WHOSE}: nft -f, a service with three endpoints comes: p50 / p99"),
        one_more.collect(),
    );
    packets::measure(cluster, WHOSE, report);
}

/// Writing to a String cannot fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

fn add_service(text: &mut String, number: u32, endpoints: u32) {
    let ip = cluster_ip(number);
    let own = format!("{number:08X}-{}/tcp/http", objects::name(number));
    let chains: Vec<String> = endpoint_ips(number, 0..endpoints)
        .map(|ip| add_endpoint(text, &own, ip))
        .collect();
    let rule = format!("add rule ip kube-proxy service-{own}");
    line(text, format_args!("add chain ip kube-proxy service-{own}"));
    line(
        text,
        format_args!("{rule} ip daddr {ip} ip saddr != {PODS} jump mark-for-masquerade"),
    );
    let entries = chains.iter().enumerate();
    let entries: Vec<String> = entries
        .map(|(at, chain)| format!("{at} : goto {chain}"))
        .collect();
    let spread = entries.join(" , ");
    line(
        text,
        format_args!("{rule} numgen random mod {endpoints} vmap {{ {spread} }}"),
    );
    let element = "add element ip kube-proxy";
    line(text, format_args!("{element} cluster-ips {{ {ip} }}"));
    line(
        text,
        format_args!("{element} service-ips {{ {ip} . tcp . {PORT} : goto service-{own} }}"),
    );
    if let Some(port) = node_port(number) {
        let rule = format!("add rule ip kube-proxy external-{own}");
        line(text, format_args!("add chain ip kube-proxy external-{own}"));
        line(text, format_args!("{rule} jump mark-for-masquerade"));
        line(text, format_args!("{rule} goto service-{own}"));
        line(
            text,
            format_args!("{element} service-nodeports {{ tcp . {port} : goto external-{own} }}"),
        );
    }
}

/// The endpoint's chain.
fn add_endpoint(text: &mut String, own: &str, ip: Ipv4Addr) -> String {
    let chain = format!("endpoint-{own}__{ip}/{TARGET_PORT}");
    let rule = format!("add rule ip kube-proxy {chain}");
    line(text, format_args!("add chain ip kube-proxy {chain}"));
    line(
        text,
        format_args!("{rule} ip saddr {ip} jump mark-for-masquerade"),
    );
    line(
        text,
        format_args!("{rule} meta l4proto tcp dnat to {ip}:{TARGET_PORT}"),
    );
    chain
}

fn load(text: &str) -> Duration {
    let file = std::env::temp_dir().join(format!("knode-bench-{}.nft", std::process::id()));
    std::fs::write(&file, text).expect("write the file");
    let began = Instant::now();
    let output = Command::new("nft").arg("-f").arg(&file).output();
    let took = began.elapsed();
    std::fs::remove_file(&file).expect("remove the file");
    let output = output.expect("nft is installed (Debian: nftables)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "nft -f: {}",
        errors.chars().take(2000).collect::<String>()
    );
    took
}
