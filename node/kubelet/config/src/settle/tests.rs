use serde_json::json;

use super::*;
use crate::flags::parse;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn line(words: &[&str]) -> CommandLine {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    parse(&words).unwrap()
}

fn files(texts: &[(&str, &str)]) -> Vec<(String, String)> {
    texts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), format!("{HEAD}{text}")))
        .collect()
}

fn settled(words: &[&str], texts: &[(&str, &str)]) -> Result<Effective, String> {
    let sources = Sources {
        preset: Map::new(),
        files: &files(texts),
    };
    settle(&line(words), sources).map_err(|error| error.to_string())
}

#[test]
fn without_anything_it_is_upstreams_configuration_and_secure() {
    let effective = settled(&[], &[]).unwrap();
    let shown = &effective.document;
    assert_eq!(shown["kind"], "KubeletConfiguration");
    assert_eq!(shown["authentication"]["anonymous"]["enabled"], false);
    assert_eq!(shown["authorization"]["mode"], "Webhook");
    assert_eq!(
        (&shown["port"], &shown["healthzPort"]),
        (&json!(10250), &json!(10248))
    );
    assert_eq!(shown["maxPods"], 110);
    assert_eq!(shown["evictionHard"]["nodefs.available"], "10%");
    assert_eq!(shown.get("readOnlyPort"), None);
    assert_eq!(
        shown.get("registryPullQPS"),
        None,
        "what has no effect is not shown"
    );
    assert_eq!(effective.settings.resolv_conf, "/etc/resolv.conf");
    assert!(effective.settings.fail_swap_on);
    assert!(effective.warnings.is_empty(), "{:?}", effective.warnings);
}

#[test]
fn drop_ins_go_before_the_file_and_flags_before_both() {
    let effective = settled(
        &["--max-pods=30", "--eviction-hard=memory.available<2Gi"],
        &[
            (
                "config",
                "maxPods: 10\nclusterDomain: a.example\nclusterDNS: [10.0.0.1, 10.0.0.2]\n\
                 evictionSoft: {memory.available: 1Gi}\nevictionHard: {nodefs.available: 1%}",
            ),
            (
                "10.conf",
                "maxPods: 20\nclusterDNS: [10.0.0.3]\nevictionSoft: {nodefs.available: 5%}",
            ),
            ("20.conf", "clusterDomain: b.example"),
        ],
    )
    .unwrap();
    let settings = effective.settings;
    assert_eq!(settings.max_pods, 30);
    assert_eq!(settings.cluster_domain, "b.example");
    assert_eq!(
        settings.cluster_dns,
        ["10.0.0.3".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(settings.eviction_soft.len(), 2, "maps of files are merged");
    assert_eq!(
        settings.eviction_hard,
        BTreeMap::from([("memory.available".to_owned(), "2Gi".to_owned())]),
        "a flag's map stands alone"
    );
}

#[test]
fn default_limits_are_kept_only_when_asked_for() {
    let merged = settled(
        &[],
        &[(
            "c",
            "mergeDefaultEvictionSettings: true\nevictionHard: {memory.available: 1Gi}",
        )],
    )
    .unwrap();
    assert_eq!(merged.settings.eviction_hard.len(), HARD.len());
    assert_eq!(merged.settings.eviction_hard["memory.available"], "1Gi");
    let alone = settled(&[], &[("c", "evictionHard: {memory.available: 1Gi}")]).unwrap();
    assert_eq!(alone.settings.eviction_hard.len(), 1);
}

#[test]
fn zeros_of_fields_that_are_no_pointers_are_nothing() {
    // As kubeadm writes it.
    let effective = settled(
        &[],
        &[(
            "/var/lib/kubelet/config.yaml",
            "authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}, x509: {clientCAFile: /ca}}\n\
             authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}\n\
             clusterDNS: [10.96.0.10]\nclusterDomain: cluster.local\ncontainerRuntimeEndpoint: \"\"\n\
             cpuManagerReconcilePeriod: 0s\ncrashLoopBackOff: {}\nevictionPressureTransitionPeriod: 0s\n\
             fileCheckFrequency: 0s\nhealthzBindAddress: 127.0.0.1\nhealthzPort: 10248\nhttpCheckFrequency: 0s\n\
             imageMaximumGCAge: 0s\nimageMinimumGCAge: 0s\n\
             logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}, text: {infoBufferSize: \"0\"}}, verbosity: 0}\n\
             memorySwap: {}\nnodeStatusReportFrequency: 0s\nnodeStatusUpdateFrequency: 0s\nrotateCertificates: true\n\
             runtimeRequestTimeout: 0s\nshutdownGracePeriod: 0s\nshutdownGracePeriodCriticalPods: 0s\n\
             staticPodPath: /etc/kubernetes/manifests\nstreamingConnectionIdleTimeout: 0s\nsyncFrequency: 0s\n\
             volumeStatsAggPeriod: 0s\nmaxPods: 0",
        )],
    )
    .unwrap();
    assert!(effective.warnings.is_empty(), "{:?}", effective.warnings);
    assert_eq!(effective.settings.max_pods, 110);
    assert_eq!(effective.settings.authentication.x509.client_ca_file, "/ca");
    assert_eq!(effective.settings.static_pod_path, "/etc/kubernetes/manifests");
    let off = settled(&[], &[("c", "healthzPort: 0")]).unwrap();
    assert_eq!(off.settings.healthz_port, 0, "a pointer's zero is a value");
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let cases: [(&[&str], &str, &str); 11] = [
        (
            &["--tls-cipher-suites=TLS_AES_128_GCM_SHA256,TLS_RSA_WITH_RC4_128_SHA"],
            "",
            "--tls-cipher-suites: tlsCipherSuites: \"TLS_RSA_WITH_RC4_128_SHA\" is not supported",
        ),
        (
            &["--tls-cert-file=/a"],
            "",
            "--tls-cert-file: tlsCertFile: needs tlsPrivateKeyFile beside it",
        ),
        (
            &[],
            "tlsPrivateKeyFile: /b",
            "c: tlsPrivateKeyFile: needs tlsCertFile beside it",
        ),
        (
            &["--anonymous-auth=true"],
            "",
            "--anonymous-auth: authentication.anonymous.enabled: true is not supported",
        ),
        (
            &["--authorization-mode=AlwaysAllow"],
            "",
            "authorization.mode: \"AlwaysAllow\" is not supported",
        ),
        (
            &["--read-only-port=10255"],
            "",
            "--read-only-port: readOnlyPort: 10255 is not supported",
        ),
        (
            &[],
            "tlsMinVersion: VersionTLS11",
            "c: tlsMinVersion: \"VersionTLS11\" is not supported: connections",
        ),
        (
            &[],
            "qosReserved: {memory: 50%}",
            "c: qosReserved: {\"memory\":\"50%\"} is not supported",
        ),
        (
            &[],
            "authentication: {anonymous: {enabled: true}}",
            "c: authentication.anonymous.enabled: true",
        ),
        (
            &["--image-gc-high-threshold=70"],
            "",
            "--image-gc-high-threshold: imageGCHighThresholdPercent: 70 is not above imageGCLowThresholdPercent 80",
        ),
        (
            &["--node-labels=node-role.kubernetes.io/master=true"],
            "",
            "a node may not set this label",
        ),
    ];
    for (words, text, says) in cases {
        let refused = settled(words, &[("c", text)]).unwrap_err();
        assert!(refused.contains(says), "{words:?} {text}: {refused}");
    }
    let others = settled(
        &["--anonymous-auth=false", "--read-only-port=0"],
        &[("c", "cpuManagerPolicy: none")],
    );
    assert!(others.unwrap().warnings.is_empty());
}

#[test]
fn what_has_no_effect_is_said() {
    let effective = settled(&[], &[("c", "syncFrequency: 5s\nfeatureGates: {A: true}")]);
    let effective = effective.unwrap();
    let said = effective.warnings.join("\n");
    for part in [
        "c: syncFrequency: \"5s\" has no effect",
        "c: featureGates: {\"A\":true} has no effect",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(effective.document.get("syncFrequency"), None);
}

#[test]
fn labels_of_kubernetes_itself_are_for_others() {
    for good in [
        "a=b",
        "example.com/a=b",
        "node.kubernetes.io/x=1",
        "topology.kubernetes.io/zone=a",
    ] {
        assert!(labels(good).is_ok(), "{good}");
    }
    for bad in ["kubernetes.io/role=master", "x.k8s.io/a=b", "a"] {
        assert!(labels(bad).is_err(), "{bad}");
    }
}

#[test]
fn presets_are_the_weakest() {
    let preset = || {
        Map::from_iter([
            ("failSwapOn".to_owned(), json!(false)),
            ("maxPods".to_owned(), json!(5)),
        ])
    };
    let text = files(&[("c", "maxPods: 6")]);
    let sources = Sources {
        preset: preset(),
        files: &text,
    };
    let effective = settle(&line(&[]), sources).unwrap();
    assert_eq!(
        (effective.settings.fail_swap_on, effective.settings.max_pods),
        (false, 6)
    );
}

#[test]
fn images_are_verified_as_upstream_does() {
    let settings = |text: &str| settled(&[], &[("c", text)]).map(|effective| effective.settings);
    let policy = |text: &str| settings(text).map(|all| all.image_pull_credentials_verification_policy);
    let given = |name: &str| format!("imagePullCredentialsVerificationPolicy: {name}");
    let default = "NeverVerifyPreloadedImages".to_owned();
    assert_eq!(policy(""), Ok(default));
    for name in ["NeverVerify", "AlwaysVerify", "NeverVerifyAllowlistedImages"] {
        assert_eq!(policy(&given(name)), Ok(name.to_owned()));
    }
    assert!(policy(&given("Sometimes")).is_err());
    let list = "preloadedImagesVerificationAllowlist: [reg.io/a]";
    let error = policy(list).unwrap_err();
    assert!(
        error.contains("c: preloadedImagesVerificationAllowlist: can't be set unless"),
        "{error}"
    );
    let both = settings(&format!("{}\n{list}", given("NeverVerifyAllowlistedImages"))).unwrap();
    assert_eq!(both.preloaded_images_verification_allowlist, ["reg.io/a"]);
}

#[test]
fn images_are_pulled_as_upstream_says_where_it_is_said() {
    let pulls = |words: &[&str], text: &str| {
        let effective = settled(words, &[("c", text)])?;
        let serial = &effective.document["serializeImagePulls"];
        Ok::<_, String>((serial == &json!(true), effective.settings.image_pulls()))
    };
    let table: [(&[&str], &str, (bool, usize)); 7] = [
        (&[], "", (false, 4)),
        (&[], "serializeImagePulls: true", (true, 1)),
        (&["--serialize-image-pulls=true"], "", (true, 1)),
        (&[], "serializeImagePulls: false", (false, usize::MAX)),
        (&[], "maxParallelImagePulls: 9", (false, 9)),
        (&[], "maxParallelImagePulls: 1", (true, 1)),
        (
            &[],
            "maxParallelImagePulls: 2\nserializeImagePulls: false",
            (false, 2),
        ),
    ];
    for (words, text, expected) in table {
        assert_eq!(pulls(words, text), Ok(expected), "{words:?} {text}");
    }
    let both = pulls(&[], "maxParallelImagePulls: 2\nserializeImagePulls: true").unwrap_err();
    assert!(
        both.contains("c: maxParallelImagePulls: 2 can't be larger than 1"),
        "{both}"
    );
    let none = pulls(&[], "maxParallelImagePulls: 0").unwrap_err();
    assert!(
        none.contains("c: maxParallelImagePulls: 0 is not a whole number from 1"),
        "{none}"
    );
}

#[test]
fn ages_of_images_fit_one_another() {
    let age = |text: &str| settled(&[], &[("c", text)]).map(|all| all.settings.image_maximum_gc_age);
    assert_eq!(age(""), Ok(std::time::Duration::ZERO));
    assert_eq!(
        age("imageMaximumGCAge: 3m"),
        Ok(std::time::Duration::from_secs(180))
    );
    let wrong = age("imageMaximumGCAge: 2m").unwrap_err();
    let says = "c: imageMaximumGCAge: 2m0s must be greater than imageMinimumGCAge 2m0s";
    assert!(wrong.contains(says), "{wrong}");
}

#[test]
fn tls_is_as_it_is_asked_for() {
    let text = "tlsCertFile: /a\ntlsPrivateKeyFile: /b\ntlsMinVersion: VersionTLS13\n\
                tlsCipherSuites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305]";
    let effective = settled(&[], &[("c", text)]).unwrap();
    let all = &effective.settings;
    assert_eq!(
        (all.tls_cert_file.as_str(), all.tls_private_key_file.as_str()),
        ("/a", "/b")
    );
    assert_eq!(all.tls_min_version, "VersionTLS13");
    assert_eq!(all.tls_cipher_suites, ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]);
    assert_eq!(effective.document["tlsMinVersion"], "VersionTLS13");
    let plain = settled(&[], &[]).unwrap().settings;
    assert_eq!(plain.tls_min_version, "VersionTLS12");
}

#[test]
fn static_pods_can_be_fetched() {
    let text = "staticPodURL: http://a/\nstaticPodURLHeader: {X-Key: [secret]}\nhttpCheckFrequency: 5s";
    let effective = settled(&[], &[("c", text)]).unwrap();
    let all = &effective.settings;
    assert_eq!(all.static_pod_url, "http://a/");
    assert_eq!(all.static_pod_url_header["X-Key"], ["secret"]);
    assert_eq!(all.http_check_frequency, std::time::Duration::from_secs(5));
    let shown = &effective.document["staticPodURLHeader"]["X-Key"];
    assert_eq!(shown, &json!(["<masked>"]));
    let wrong = settled(&["--manifest-url=ftp://a"], &[]).unwrap_err();
    let says = "--manifest-url: staticPodURL: \"ftp://a\" is neither";
    assert!(wrong.contains(says), "{wrong}");
}

#[test]
fn limits_of_upstream_hold() {
    let table = [
        ("podLogsDir: logs", "podLogsDir: \"logs\" is not an absolute"),
        (
            "podLogsDir: /a/../b",
            "podLogsDir: \"/a/../b\" is not an absolute",
        ),
        ("podLogsDir: /a/", "podLogsDir: \"/a/\" is not an absolute"),
        ("podLogsDir: /ä", "podLogsDir: \"/ä\" is not an absolute"),
        (
            "containerLogMonitorInterval: 2s",
            "containerLogMonitorInterval: 2s is less than 3s",
        ),
        (
            "memoryThrottlingFactor: 0",
            "memoryThrottlingFactor: 0 is not a number above 0",
        ),
        (
            "memoryThrottlingFactor: 1.1",
            "memoryThrottlingFactor: 1.1 is not a number above 0",
        ),
        (
            "registerWithTaints: [{key: a b, effect: NoExecute}]",
            "registerWithTaints: \"a b\"",
        ),
        (
            "registerWithTaints: [{key: a, value: '-', effect: NoExecute}]",
            "registerWithTaints: \"-\"",
        ),
        (
            "registerWithTaints: [{key: a, effect: NoExecute, timeAdded: '2026-01-01T00:00:00Z'}]",
            "registerWithTaints: timeAdded",
        ),
    ];
    for (text, says) in table {
        let refused = settled(&[], &[("c", text)]).unwrap_err();
        assert!(refused.contains(&format!("c: {says}")), "{text}: {refused}");
    }
    let good = "podPidsLimit: -5\ncontainerLogMonitorInterval: 3s\nmemoryThrottlingFactor: 1";
    settled(&[], &[("c", good)]).unwrap();
}

#[test]
fn resources_are_read() {
    let text = "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {full-pcpus-only: 'true'}\n\
                reservedSystemCPUs: 0-1\nsystemReserved: {memory: 1Gi}\npodPidsLimit: 64\ncpuCFSQuota: false\n\
                reservedMemory: [{numaNode: 1, limits: {memory: 1Gi}}]\nseccompDefault: true\n\
                memorySwap: {swapBehavior: LimitedSwap}";
    let flags = ["--cpu-manager-policy-options=strict-cpu-reservation=true"];
    let all = settled(&flags, &[("c", text)]).unwrap().settings.resources;
    assert_eq!(all.cpu_manager_policy_options.len(), 1);
    assert_eq!(
        (all.reserved_system_cpus.as_str(), all.pod_pids_limit),
        ("0-1", 64)
    );
    assert_eq!((all.cpu_cfs_quota, all.seccomp_default), (false, true));
    assert_eq!(
        (
            all.reserved_memory[0].numa_node,
            all.memory_swap.swap_behavior.as_str()
        ),
        (1, "LimitedSwap")
    );
    let plain = settled(&[], &[]).unwrap().settings.resources;
    assert_eq!((plain.pod_pids_limit, plain.cpu_cfs_quota), (-1, true));
    assert_eq!(plain.enforce_node_allocatable, ["pods"]);
}

#[test]
fn log_files_of_the_machine_are_served_unless_switched_off() {
    let served = |text: &str| {
        settled(&[], &[("c", text)])
            .unwrap()
            .settings
            .enable_system_log_handler
    };
    assert!(served(""));
    assert!(!served("enableSystemLogHandler: false"));
}
