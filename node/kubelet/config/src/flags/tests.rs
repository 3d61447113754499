use serde_json::json;

use super::*;

fn line(words: &[&str]) -> Result<CommandLine, String> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    parse(&words).map_err(|error| error.to_string())
}

fn field(words: &[&str], path: &str) -> Value {
    line(words).unwrap().fields[path].0.clone()
}

#[test]
fn the_forms_of_pflag_are_understood() {
    assert_eq!(field(&["--max-pods=20"], "maxPods"), json!(20));
    assert_eq!(field(&["--max-pods", "20"], "maxPods"), json!(20));
    assert_eq!(field(&["--max_pods=20"], "maxPods"), json!(20));
    assert_eq!(field(&["--fail-swap-on"], "failSwapOn"), json!(true));
    assert_eq!(field(&["--fail-swap-on=F"], "failSwapOn"), json!(false));
    assert_eq!(field(&["--cluster-domain="], "clusterDomain"), json!(""));
    assert_eq!(
        field(
            &["--cluster_dns=10.0.0.1", "--cluster-dns=10.0.0.2,10.0.0.3"],
            "clusterDNS"
        ),
        json!(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    );
    assert_eq!(
        field(
            &["--eviction-hard=memory.available<1Gi,nodefs.available<5%"],
            "evictionHard"
        ),
        json!({"memory.available": "1Gi", "nodefs.available": "5%"})
    );
    assert_eq!(
        field(&["--feature-gates=A=true,B=false"], "featureGates"),
        json!({"A": true, "B": false})
    );
    assert_eq!(
        field(
            &["--register-with-taints=a=b:NoSchedule,c:NoExecute"],
            "registerWithTaints"
        ),
        json!([
            {"key": "a", "value": "b", "effect": "NoSchedule"},
            {"key": "c", "value": "", "effect": "NoExecute"}
        ])
    );
    for short in [&["-v=4"][..], &["-v", "4"], &["-v4"], &["--v=4"]] {
        assert_eq!(line(short).unwrap().own(Own::Verbosity), Some("4"), "{short:?}");
    }
    assert_eq!(line(&["-h"]).unwrap().command, Command::Help);
    assert_eq!(line(&["--version"]).unwrap().command, Command::Version);
    assert_eq!(line(&["--help=false"]).unwrap().command, Command::Run);
    let labels = line(&["--node-labels=a=b", "--node-labels=c=d"]).unwrap();
    assert_eq!(labels.own(Own::NodeLabels), Some("a=b,c=d"));
}

#[test]
fn what_is_no_flag_is_named() {
    let cases: [(&[&str], &str); 15] = [
        (&["--max-pod=1"], "unknown flag: --max-pod"),
        (&["--max-pod"], "unknown flag: --max-pod"),
        (&["--max-pods"], "flag needs an argument: --max-pods"),
        (
            &["--max-pods=many"],
            "invalid argument \"many\" for \"--max-pods\" flag: not a whole number",
        ),
        (
            &["--image-gc-high-threshold=101"],
            "--image-gc-high-threshold: imageGCHighThresholdPercent: 101 is not a whole number from 0 to 100",
        ),
        (
            &["--fail-swap-on=no"],
            "invalid argument \"no\" for \"--fail-swap-on\" flag: neither true nor false",
        ),
        (&["--fail-swap-on", "false"], "unknown command \"false\""),
        (&["run"], "unknown command \"run\""),
        (&["-address=1"], "unknown shorthand flag: 'a' in -address=1"),
        (&["-verbose"], "unknown shorthand flag: 'v' in -verbose"),
        (
            &["--eviction-hard=memory.available=1"],
            "invalid argument \"memory.available=1\" for \"--eviction-hard\" flag: \"memory.available=1\" is not of the form NAME<VALUE",
        ),
        (
            &["--cluster-dns=here"],
            "--cluster-dns: clusterDNS[0]: \"here\" is not an IP address",
        ),
        (
            &["--api-servers=http://m:8080"],
            "--api-servers is gone: --kubeconfig names the API server and the credential",
        ),
        (
            &["--cloud-provider=aws"],
            "--cloud-provider is not supported: clouds are their controllers' concern",
        ),
        (
            &["--logtostderr=false"],
            "--logtostderr=false is gone: logs go to standard error, where the service manager takes them",
        ),
    ];
    for (words, says) in cases {
        assert_eq!(line(words).unwrap_err(), says, "{words:?}");
    }
    assert!(line(&["--cloud-provider="]).is_ok(), "an empty value is none");
}

#[test]
fn the_flags_of_old_units_are_taken() {
    let line = line(&[
        "--address=192.168.1.173",
        "--hostname-override=192.168.1.173",
        "--pod-infra-container-image=registry.example/pod:latest",
        "--experimental-bootstrap-kubeconfig=/etc/kubernetes/bootstrap.kubeconfig",
        "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
        "--require-kubeconfig",
        "--cert-dir=/etc/kubernetes/ssl",
        "--cluster_dns=10.254.0.2",
        "--cluster_domain=cluster.local.",
        "--hairpin-mode",
        "promiscuous-bridge",
        "--allow-privileged=true",
        "--serialize-image-pulls=false",
        "--container-runtime=docker",
        "--docker-endpoint=unix:///var/run/docker.sock",
        "--logtostderr=true",
        "--v=2",
    ])
    .unwrap();
    assert_eq!(
        line.own(Own::BootstrapKubeconfig),
        Some("/etc/kubernetes/bootstrap.kubeconfig")
    );
    assert_eq!(line.own(Own::CertDir), Some("/etc/kubernetes/ssl"));
    assert_eq!(line.fields["clusterDNS"].0, json!(["10.254.0.2"]));
    assert_eq!(line.docker, ["--container-runtime", "--docker-endpoint"]);
    let warned = |flag: &str| line.warnings.iter().filter(|text| text.contains(flag)).count();
    for flag in [
        "--experimental-bootstrap-kubeconfig is --bootstrap-kubeconfig today",
        "--require-kubeconfig=true has no effect",
        "--pod-infra-container-image has no effect",
        "--allow-privileged=true has no effect",
        "--logtostderr=true has no effect",
    ] {
        assert_eq!(warned(flag), 1, "{flag}: {:?}", line.warnings);
    }
}

#[test]
fn every_flag_of_a_field_has_one() {
    for (flag, path) in table::FIELDS {
        assert!(crate::schema::find(path).is_some(), "--{flag}: {path}");
    }
    let mut names: Vec<&str> = table::FIELDS.iter().map(|(flag, _)| *flag).collect();
    names.extend(table::OWN.iter().map(|(flag, ..)| *flag));
    names.extend(table::OTHERS.iter().chain(old::GONE).map(|(flag, _)| *flag));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a flag stands twice");
    for (flag, target) in old::GONE {
        if let table::Target::Alias(today) = target {
            assert!(table::find(today).is_some(), "--{flag}: --{today}");
        }
    }
    assert!(usage().contains("--cluster-dns IP,...  clusterDNS"));
}
