use knode_cri::{
    LinuxPodSandboxStats, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxMetadata,
    PodSandboxStats, ProcessUsage, UInt64Value,
};

use knode_linux::filewatch::FileSystemUsage;
use serde_json::json;

use super::collect::{Amount, Container, Swap, Usage, Whole};
use super::storage::Held;
use super::volumes::Volume;
use super::{cadvisor, pods, resource, summary};

fn usage() -> Usage {
    let at = "2026-11-22T14:59:29.292Z".parse().unwrap();
    let container = |name: &str, cpu: u64, memory: u64| Container {
        name: name.to_owned(),
        id: format!("id-{name}"),
        image: "i".to_owned(),
        pod: "p".to_owned(),
        namespace: "st".to_owned(),
        uid: "u".to_owned(),
        amount: Amount {
            cpu_nanoseconds: Some(cpu),
            working_set: Some(memory),
            ..Amount::default()
        },
        pressures: Default::default(),
        memory_available: None,
        swap: Swap::default(),
        layer_bytes: None,
        layer_inodes: None,
        logs: None,
        started: None,
        at,
    };
    Usage {
        node_name: "node1".to_owned(),
        started: at,
        now: at,
        node: Amount {
            cpu_nanoseconds: Some(2_000_000_000),
            working_set: Some(7),
            ..Amount::default()
        },
        memory_available: 9,
        swap: Swap::default(),
        fs: None,
        whole: None,
        runtime_fs: (None, None),
        containers: vec![
            container("c", 45_355_825, 5_304_320),
            container("d", 1_000_000_000, 10),
        ],
        pods: Default::default(),
        interfaces: Vec::new(),
        tasks: None,
    }
}

/// recordings: kubelet-api, /metrics/resource
#[test]
fn metrics_have_the_names_that_are_scraped() {
    let text = resource::render(&usage());
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter",
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"st\",pod=\"p\"} 0.045355825 1795359569292",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"st\",pod=\"p\"} 5304320 1795359569292",
        "node_cpu_usage_seconds_total 2 1795359569292",
        "node_memory_working_set_bytes 7 1795359569292",
        "resource_scrape_error 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn pods_are_the_sum_of_their_containers_and_nothing_is_invented() {
    let value = summary::render(&usage());
    let pod = &value["pods"][0];
    assert_eq!(pod["podRef"]["name"], "p");
    assert_eq!(pod["containers"].as_array().unwrap().len(), 2);
    assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 1_045_355_825u64);
    assert_eq!(pod["memory"]["workingSetBytes"], 5_304_330);
    assert!(pod["memory"].get("rssBytes").is_none());
    assert!(value["node"].get("fs").is_none());
    assert_eq!(value["node"]["memory"]["availableBytes"], 9);
    assert_eq!(value["node"]["cpu"]["time"], "2026-11-22T14:59:29Z");
}

/// recordings: kubelet-api, /stats/summary
#[test]
fn swap_and_page_faults_are_told_where_they_are_known() {
    let mut usage = usage();
    usage.swap = Swap {
        available: Some(100),
        used: Some(28),
    };
    for (container, used) in usage.containers.iter_mut().zip([3, 4]) {
        container.swap.used = Some(used);
        container.amount.page_faults = Some(10 * used);
    }
    usage.containers[0].swap.available = Some(50);
    usage.containers[0].memory_available = Some(60);
    let value = summary::render(&usage);
    let (node, pod) = (&value["node"], &value["pods"][0]);
    let (first, second) = (&pod["containers"][0], &pod["containers"][1]);
    assert_eq!(node["swap"]["swapAvailableBytes"], 100);
    assert_eq!(node["swap"]["swapUsageBytes"], 28);
    assert_eq!(pod["swap"]["swapUsageBytes"], 7);
    assert!(pod["swap"].get("swapAvailableBytes").is_none());
    assert_eq!(first["swap"]["swapAvailableBytes"], 50);
    assert_eq!(first["memory"]["availableBytes"], 60);
    assert!(second["memory"].get("availableBytes").is_none());
    assert_eq!(second["memory"]["pageFaults"], 40);
    assert_eq!(pod["memory"]["pageFaults"], 70);
    assert!(pod["memory"].get("majorPageFaults").is_none());
    let unknown = summary::render(&self::usage());
    assert!(unknown["node"].get("swap").is_none());
    assert!(unknown["pods"][0].get("swap").is_none());
}

fn with_pod() -> Usage {
    let number = |value| Some(UInt64Value { value });
    let interface = NetworkInterfaceUsage {
        name: "eth0".to_owned(),
        rx_bytes: number(5),
        tx_bytes: number(6),
        ..Default::default()
    };
    let stats = PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: "s".to_owned(),
            metadata: Some(PodSandboxMetadata {
                name: "p".to_owned(),
                uid: "u".to_owned(),
                namespace: "st".to_owned(),
                attempt: 0,
            }),
            ..Default::default()
        }),
        linux: Some(LinuxPodSandboxStats {
            network: Some(NetworkUsage {
                default_interface: Some(interface),
                ..Default::default()
            }),
            process: Some(ProcessUsage {
                process_count: number(3),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    Usage {
        pods: pods::of_runtime(vec![stats]),
        tasks: Some((233, 32768)),
        ..usage()
    }
}

/// recordings: kubelet-api, /stats/summary
#[test]
fn a_pod_has_network_and_processes_where_the_runtime_tells() {
    let value = summary::render(&with_pod());
    let pod = &value["pods"][0];
    let network = &pod["network"];
    assert_eq!(
        (&network["name"], &network["rxBytes"]),
        (&"eth0".into(), &5.into())
    );
    assert_eq!(network["interfaces"][0]["txBytes"], 6);
    assert_eq!(pod["process_stats"]["process_count"], 3);
    assert_eq!(
        pod["cpu"]["usageCoreNanoSeconds"], 1_045_355_825u64,
        "the sum, where it tells none"
    );
    assert_eq!(value["node"]["rlimit"]["curproc"], 233);
    assert_eq!(value["node"]["rlimit"]["maxpid"], 32768);
}

#[test]
fn cadvisors_names_are_kept() {
    let text = cadvisor::render(&with_pod());
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter",
        "container_cpu_usage_seconds_total{container=\"c\",id=\"id-c\",image=\"i\",name=\"id-c\",namespace=\"st\",pod=\"p\"} 0.045355825 1795359569292",
        "container_network_receive_bytes_total{container=\"\",id=\"s\",image=\"\",interface=\"eth0\",name=\"s\",namespace=\"st\",pod=\"p\"} 5 1795359569292",
        "container_processes{container=\"\",id=\"s\",name=\"s\",namespace=\"st\",pod=\"p\"} 3 1795359569292",
        "container_scrape_error 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(
        !text.contains("container_memory_rss"),
        "what is not measured is left out"
    );
}

fn held(bytes: u64, inodes: u64) -> Held {
    let fs = FileSystemUsage {
        capacity: 1000,
        available: 600,
        used: 400,
        inodes: 90,
        inodes_free: 50,
    };
    Held {
        bytes,
        inodes: Some(inodes),
        fs: Some(fs),
    }
}

/// recordings: kubelet-api, /stats/summary
#[test]
fn file_systems_logs_and_volumes_are_told_and_summed() {
    let mut usage = with_pod();
    usage.fs = held(0, 0).fs;
    usage.runtime_fs = (Some(held(70, 7)), Some(held(30, 3)));
    usage.containers[0].layer_bytes = Some(100);
    usage.containers[0].layer_inodes = Some(10);
    usage.containers[0].logs = Some(held(20, 2));
    let at = usage.now;
    usage.containers[0].started = Some(at);
    let pod = usage.pods.get_mut("u").unwrap();
    pod.started = Some(at);
    let volume = |name: &str, claim: Option<(String, String)>, local: bool| Volume {
        name: name.to_owned(),
        claim,
        abnormal: None,
        local,
        at,
        held: held(3, 1),
    };
    pod.volumes = vec![
        volume("scratch", None, true),
        volume("data", Some(("disk".into(), "st".into())), false),
    ];
    usage.whole = Some(Whole {
        amount: usage.containers[0].amount,
        memory_available: Some(8),
        swapped: 4,
    });
    let value = summary::render(&usage);
    let (node, pod) = (&value["node"], &value["pods"][0]);
    let all = &node["systemContainers"][0];
    assert_eq!(
        (&all["name"], &all["memory"]["availableBytes"]),
        (&json!("pods"), &json!(8))
    );
    assert_eq!(all["memory"]["workingSetBytes"], 5_304_320);
    assert_eq!(all["swap"]["swapUsageBytes"], 4);
    assert_eq!(node["fs"]["usedBytes"], 400);
    assert_eq!(node["runtime"]["imageFs"]["usedBytes"], 70);
    assert_eq!(node["runtime"]["containerFs"]["inodesUsed"], 3);
    let first = &pod["containers"][0];
    assert_eq!(first["rootfs"]["usedBytes"], 100);
    assert_eq!(first["rootfs"]["capacityBytes"], 1000, "the layers' file system");
    assert_eq!(first["logs"]["inodesUsed"], 2);
    assert_eq!(first["startTime"], "2026-11-22T14:59:29Z");
    assert_eq!(pod["startTime"], "2026-11-22T14:59:29Z");
    assert_eq!(pod["ephemeral-storage"]["usedBytes"], 123, "without the claim's");
    assert_eq!(pod["ephemeral-storage"]["inodesUsed"], 13);
    assert_eq!(pod["ephemeral-storage"]["availableBytes"], 600);
    assert!(pod["volume"][0].get("pvcRef").is_none());
    assert_eq!(
        pod["volume"][1]["pvcRef"],
        json!({"name": "disk", "namespace": "st"})
    );
    let unknown = summary::render(&self::usage());
    assert!(unknown["node"].get("runtime").is_none());
    assert!(unknown["pods"][0].get("ephemeral-storage").is_none());
    assert!(unknown["pods"][0]["containers"][0].get("logs").is_none());
}

#[test]
fn pressure_is_told_of_containers_that_have_it() {
    let mut usage = usage();
    let data = |total| {
        Some(knode_cri::PsiData {
            total,
            avg10: 2.5,
            ..Default::default()
        })
    };
    usage.containers[0].pressures.memory = Some(knode_cri::PsiStats {
        full: data(500_000_000),
        some: data(1_500_000_000),
    });
    let containers = &summary::render(&usage)["pods"][0]["containers"];
    assert_eq!(containers[0]["memory"]["psi"]["some"]["avg10"], 2.5);
    assert!(containers[1]["memory"].get("psi").is_none() && containers[0].get("io").is_none());
    let text = cadvisor::render(&usage);
    for wanted in [
        "container_pressure_memory_stalled_seconds_total{container=\"c\"",
        "container_pressure_memory_waiting_seconds_total{container=\"c\"",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    assert!(!text.contains("container_pressure_cpu"), "{text}");
}
