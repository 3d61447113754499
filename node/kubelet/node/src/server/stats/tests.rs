use super::collect::{Amount, Container, Usage};
use super::{resource, summary};

fn usage() -> Usage {
    let at = "2026-11-22T14:59:29.292Z".parse().unwrap();
    let container = |name: &str, cpu: u64, memory: u64| Container {
        name: name.to_owned(),
        pod: "p".to_owned(),
        namespace: "st".to_owned(),
        uid: "u".to_owned(),
        amount: Amount {
            cpu_nanoseconds: Some(cpu),
            working_set: Some(memory),
            ..Amount::default()
        },
        layer_bytes: None,
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
        fs: None,
        containers: vec![
            container("c", 45_355_825, 5_304_320),
            container("d", 1_000_000_000, 10),
        ],
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
