//! Pods that say what they see and end: each a script, and lines that its log must have.

use serde_json::{Value, json};

/// One pod.
pub struct Case {
    pub name: &'static str,
    pub spec: Value,
    pub says: Vec<String>,
}

/// Puts the fields of `more` into `value`.
fn with(mut value: Value, more: &Value) -> Value {
    for (key, field) in more.as_object().into_iter().flatten() {
        value[key.as_str()] = field.clone();
    }
    value
}

/// A container that runs a script.
fn container(script: &str, more: &Value) -> Value {
    let own = json!({"name": "c", "image": "busybox:test", "imagePullPolicy": "Never", "command": ["sh", "-c", script]});
    with(own, more)
}

/// A pod of one container.
fn case(name: &'static str, script: &str, more: Value, spec: Value, says: &[&str]) -> Case {
    let own = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [container(script, &more)]});
    Case {
        name,
        spec: with(own, &spec),
        says: says.iter().map(|line| (*line).to_owned()).collect(),
    }
}

/// Config maps, secrets and services that the pods refer to.
pub fn objects() -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
            "data": {"colour": "blue", "file.txt": "content"}, "binaryData": {"bytes": "AAEC"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"word": "sesame"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "fooservice"},
            "spec": {"ports": [{"port": 8765, "targetPort": 8080}]}},
    ]})
}

/// All pods.
pub fn all() -> Vec<Case> {
    let groups = [
        images(),
        environment(),
        downward(),
        hosts(),
        security(),
        volumes(),
        restarts(),
        resources(),
    ];
    groups.into_iter().flatten().collect()
}

/// Commands and arguments of the image, and of the pod instead.
fn images() -> Vec<Case> {
    let words = |name, command: Value, says: &[&str]| {
        let mut made = case(name, "", json!({"image": "words:test"}), json!({}), says);
        let container = &mut made.spec["containers"][0];
        container.as_object_mut().unwrap().remove("command");
        *container = with(container.clone(), &command);
        made
    };
    vec![
        words("image-defaults", json!({}), &["entry default"]),
        words(
            "image-arguments",
            json!({"args": ["own", "words"]}),
            &["entry own words"],
        ),
        words("image-command", json!({"command": ["echo", "own"]}), &["own"]),
        words(
            "image-both",
            json!({"command": ["echo"], "args": ["both", "own"]}),
            &["both own"],
        ),
    ]
}

fn environment() -> Vec<Case> {
    let env = json!([{"name": "FOO", "value": "foo"}, {"name": "BAR", "value": "$(FOO)bar"},
        {"name": "BOTH", "value": "$(FOO);;$(BAR)"}, {"name": "PLAIN", "value": "$$(FOO) $(NONE)"}]);
    let keys = json!([
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": true}}}]);
    let all =
        json!([{"prefix": "p_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "hidden"}}]);
    let from_file = |key: &str, optional: bool| {
        json!({"name": key, "valueFrom": {"fileKeyRef": {"volumeName": "v",
        "path": "config.env", "key": key, "optional": optional}}})
    };
    let written = container(
        "printf \"A='one'\\nB='two\\nlines'\\n\" > /v/config.env",
        &json!({"name": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
    );
    vec![
        case(
            "env-composed",
            "echo \"$BOTH\"; echo \"$PLAIN\"",
            json!({"env": env}),
            json!({}),
            &["foo;;foobar", "$(FOO) $(NONE)"],
        ),
        case(
            "env-words",
            "",
            json!({"env": env, "command": ["echo", "$(FOO)"], "args": ["$(BAR)", "$$(BAR)"]}),
            json!({}),
            &["foo foobar $(BAR)"],
        ),
        case(
            "env-keys",
            "echo $COLOUR $WORD; [ -z \"${GONE+x}\" ] && echo none",
            json!({"env": keys}),
            json!({}),
            &["blue sesame", "none"],
        ),
        case(
            "env-all",
            "echo $p_colour $word",
            json!({"envFrom": all}),
            json!({}),
            &["blue sesame"],
        ),
        case(
            "env-services",
            "echo $FOOSERVICE_SERVICE_PORT $FOOSERVICE_PORT_8765_TCP_PROTO; \
            [ \"$FOOSERVICE_PORT\" = \"tcp://$FOOSERVICE_SERVICE_HOST:8765\" ] && echo same",
            json!({}),
            json!({}),
            &["8765 tcp", "same"],
        ),
        case(
            "env-files",
            "echo $A; echo \"$B\"; [ -z \"${C+x}\" ] && echo none",
            json!({"env": [from_file("A", false), from_file("B", false), from_file("C", true)]}),
            json!({"initContainers": [written], "volumes": [{"name": "v", "emptyDir": {}}]}),
            &["one", "two", "lines", "none"],
        ),
    ]
}

fn downward() -> Vec<Case> {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resource = |name: &str, resource: &str, divisor: &str| {
        json!({"name": name, "valueFrom": {
        "resourceFieldRef": {"resource": resource, "divisor": divisor}}})
    };
    let env = json!([
        field("NAME", "metadata.name"),
        field("SPACE", "metadata.namespace"),
        field("ID", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("ACCOUNT", "spec.serviceAccountName"),
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        field("HOSTS", "status.hostIPs")
    ]);
    let amounts = json!([
        resource("CPU", "limits.cpu", "1m"),
        resource("ASKED", "requests.cpu", "1m"),
        resource("MEMORY", "limits.memory", "1Mi"),
        resource("WANTED", "requests.memory", "1")
    ]);
    let limits =
        json!({"requests": {"cpu": "25m", "memory": "16Mi"}, "limits": {"cpu": "250m", "memory": "32Mi"}});
    vec![
        case(
            "fields",
            "echo $NAME $SPACE $NODE $ACCOUNT $HOST $HOSTS ${#ID}; \
            ip -4 addr show eth0 | grep -q \"inet $IP/\" && echo mine",
            json!({"env": env}),
            json!({}),
            &["fields default node1 default 10.99.0.1 10.99.0.1 36", "mine"],
        ),
        case(
            "amounts",
            "echo $CPU $ASKED $MEMORY $WANTED",
            json!({"env": amounts, "resources": limits}),
            json!({}),
            &["250 25 32 16777216"],
        ),
        case(
            "amounts-of-the-node",
            "[ $CPU -ge 1000 ] && [ $MEMORY -gt 64 ] && echo all",
            json!({"env": [resource("CPU", "limits.cpu", "1m"), resource("MEMORY", "limits.memory", "1Mi")]}),
            json!({}),
            &["all"],
        ),
    ]
}

/// Names: hosts files, resolvers, host names.
fn hosts() -> Vec<Case> {
    let dns = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"],
        "searches": ["my.dns.search.suffix"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
    let own = json!({"volumeMounts": [{"name": "own", "mountPath": "/etc/hosts"}]});
    let file = json!({"volumes": [{"name": "own", "hostPath": {"path": "/etc/hosts", "type": "File"}}]});
    vec![
        case(
            "hosts-aliases",
            "head -1 /etc/hosts; grep -q '^123.45.67.89[[:space:]]foo[[:space:]]bar$' /etc/hosts && echo there",
            json!({}),
            json!({"hostAliases": [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]}),
            &["# Kubernetes-managed hosts file.", "there"],
        ),
        case(
            "hosts-of-its-own",
            "grep -q Kubernetes-managed /etc/hosts || echo own",
            own,
            file,
            &["own"],
        ),
        case(
            "hosts-of-the-node",
            "head -1 /etc/hosts",
            json!({}),
            json!({"hostNetwork": true}),
            &["# Kubernetes-managed hosts file (host network)."],
        ),
        case(
            "resolver",
            "cat /etc/resolv.conf",
            json!({}),
            dns,
            &[
                "search my.dns.search.suffix",
                "nameserver 1.1.1.1",
                "options ndots:2 edns0",
            ],
        ),
        case(
            "full-hostname",
            "hostname",
            json!({}),
            json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
            &["h.s.default.svc.cluster.local"],
        ),
        case(
            "hostname",
            "hostname; grep -q 'h.s.default.svc.cluster.local[[:space:]]h$' /etc/hosts && echo known",
            json!({}),
            json!({"hostname": "h", "subdomain": "s"}),
            &["h", "known"],
        ),
    ]
}

fn security() -> Vec<Case> {
    let context = |fields: Value| json!({"securityContext": fields});
    let ids = "echo $(id -u) $(id -g)";
    let mount = "mount -t tmpfs none /tmp 2>/dev/null && echo mounted || echo refused";
    let shared = container(
        "for i in $(seq 100); do id=$(ps | awk '/ sleep 54321$/ {print $1}'); \
        [ -n \"$id\" ] && echo seen && kill $id && break; sleep 0.1; done",
        &json!({"name": "other"}),
    );
    let mut cases = vec![
        case(
            "root-read-only",
            "echo x 2>/dev/null > /file || echo refused",
            context(json!({"readOnlyRootFilesystem": true})),
            json!({}),
            &["refused"],
        ),
        case(
            "root-writable",
            "echo x > /file && echo written",
            context(json!({"readOnlyRootFilesystem": false})),
            json!({}),
            &["written"],
        ),
        case(
            "user-nobody",
            "id -u",
            context(json!({"runAsUser": 65534})),
            json!({}),
            &["65534"],
        ),
        case(
            "user-of-container",
            ids,
            context(json!({"runAsUser": 1001, "runAsGroup": 2002})),
            context(json!({"runAsUser": 7})),
            &["1001 2002"],
        ),
        case(
            "user-of-pod",
            "echo $(id -u) $(id -g); id -G | grep 1234 | grep -q 5678 && echo groups",
            json!({}),
            context(json!({"runAsUser": 1001,
            "runAsGroup": 2002, "supplementalGroups": [1234], "fsGroup": 5678})),
            &["1001 2002", "groups"],
        ),
        case(
            "privileges-fixed",
            "grep NoNewPrivs /proc/self/status | awk '{print $2}'",
            context(json!({"allowPrivilegeEscalation": false})),
            json!({}),
            &["1"],
        ),
        case(
            "privileges-free",
            "grep NoNewPrivs /proc/self/status | awk '{print $2}'",
            context(json!({"allowPrivilegeEscalation": true})),
            json!({}),
            &["0"],
        ),
        case(
            "unprivileged",
            mount,
            context(json!({"privileged": false})),
            json!({}),
            &["refused"],
        ),
        case(
            "privileged",
            mount,
            context(json!({"privileged": true})),
            json!({}),
            &["mounted"],
        ),
        case(
            "sysctl",
            "cat /proc/sys/kernel/shm_rmid_forced",
            json!({}),
            context(json!({"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]})),
            &["1"],
        ),
        case(
            "capabilities",
            "grep CapEff /proc/self/status | awk '{print $2}'",
            context(json!({"capabilities":
            {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}})),
            json!({}),
            &["0000000000000400"],
        ),
    ];
    let mut processes = case(
        "processes-shared",
        "sleep 54321; echo ended",
        json!({}),
        json!({"shareProcessNamespace": true}),
        &["seen", "ended"],
    );
    processes.spec["containers"].as_array_mut().unwrap().push(shared);
    cases.push(processes);
    cases
}

fn volumes() -> Vec<Case> {
    let mount = |path: &str| json!({"volumeMounts": [{"name": "v", "mountPath": path}]});
    let of = |source: Value| json!({"volumes": [with(json!({"name": "v"}), &source)]});
    let projected = of(json!({"projected": {"sources": [
        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "map/colour"}]}},
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]}}));
    let limits =
        json!({"resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m", "memory": "32Mi"}}});
    let downward = of(json!({"downwardAPI": {"items": [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}}));
    let first = container(
        "echo made > /v/file; chmod 640 /v/file",
        &with(mount("/v"), &json!({"name": "i"})),
    );
    let named = json!({"env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(POD)/deep"}, {"name": "v", "mountPath": "/all"}]});
    vec![
        case(
            "volume-empty",
            "stat -c %a /v; cat /v/file; stat -c %a /v/file",
            mount("/v"),
            with(of(json!({"emptyDir": {}})), &json!({"initContainers": [first]})),
            &["777", "made", "640"],
        ),
        case(
            "volume-in-memory",
            "stat -f -c %T /v",
            mount("/v"),
            of(json!({"emptyDir": {"medium": "Memory"}})),
            &["tmpfs"],
        ),
        case(
            "volume-config-map",
            "stat -L -c %a /v/renamed; cat /v/renamed; echo; wc -c < /v/bytes",
            mount("/v"),
            of(
                json!({"configMap": {"name": "settings", "defaultMode": 0o440, "items": [
                {"key": "file.txt", "path": "renamed", "mode": 0o400}, {"key": "bytes", "path": "bytes"}]}}),
            ),
            &["400", "content", "3"],
        ),
        case(
            "volume-optional",
            "ls /v | wc -l",
            mount("/v"),
            of(json!({"configMap": {"name": "none", "optional": true}})),
            &["0"],
        ),
        case(
            "volume-secret",
            "stat -L -c %a /v/word; cat /v/word; echo; stat -f -c %T /v",
            mount("/v"),
            of(json!({"secret": {"secretName": "hidden", "defaultMode": 0o400}})),
            &["400", "sesame", "tmpfs"],
        ),
        case(
            "volume-secret-group",
            "stat -L -c '%a %g' /v/word",
            mount("/v"),
            with(
                of(json!({"secret": {"secretName": "hidden", "defaultMode": 0o440}})),
                &json!({"securityContext": {"fsGroup": 1001}}),
            ),
            &["440 1001"],
        ),
        case(
            "volume-projected",
            "cat /v/map/colour /v/word; echo; cat /v/labels; echo; [ -s /v/token ] && echo token",
            mount("/v"),
            projected,
            &["bluesesame", "suite=\"ends\"", "token"],
        ),
        case(
            "volume-downward",
            "cat /v/name; echo; cat /v/cpu; echo",
            with(mount("/v"), &limits),
            downward,
            &["volume-downward", "500"],
        ),
        case(
            "volume-host-path",
            "cat /v | grep -c '^root:'",
            mount("/v"),
            of(json!({"hostPath": {"path": "/etc/passwd", "type": "File"}})),
            &["1"],
        ),
        case(
            "volume-sub-path",
            "cat /v; echo",
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "file.txt"}]}),
            of(json!({"configMap": {"name": "settings"}})),
            &["content"],
        ),
        case(
            "volume-sub-path-expanded",
            "echo here > /v/file; cat /all/volume-sub-path-expanded/deep/file",
            named,
            of(json!({"emptyDir": {}})),
            &["here"],
        ),
    ]
}

/// Init containers, restarts of one container and of all.
fn restarts() -> Vec<Case> {
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let count = "echo run >> /v/$0; runs=$(wc -l < /v/$0)";
    let rules = |action: &str| {
        with(
            json!({"restartPolicy": "Never", "restartPolicyRules": [
        {"action": action, "exitCodes": {"operator": "In", "values": [42]}}]}),
            &mount,
        )
    };
    let volume = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let script = |text: &str, more: &Value| {
        let mut made = container("", more);
        let name = made["name"].clone();
        made["command"] = json!(["sh", "-c", format!("{count}; {text}"), name]);
        made
    };
    let pod = |name, inits: Value, containers: Value, says: &[&str]| {
        let spec = with(
            volume.clone(),
            &json!({"initContainers": inits, "containers": containers}),
        );
        case(name, "", json!({}), spec, says)
    };
    let named = |name: &str, more: &Value| with(more.clone(), &json!({"name": name}));
    let on_failure = {
        let first = script("[ $runs -gt 1 ] || exit 1; echo run $runs", &named("c", &mount));
        let mut made = pod("restart-on-failure", json!([]), json!([first]), &["run 2"]);
        made.spec["restartPolicy"] = "OnFailure".into();
        made
    };
    vec![
        pod(
            "init-in-order",
            json!([
                script("echo $runs", &named("i", &mount)),
                script("[ -f /v/i ] && echo second", &named("j", &mount))
            ]),
            json!([script("[ -f /v/j ] && echo last", &named("c", &mount))]),
            &["1", "second", "last"],
        ),
        on_failure,
        pod(
            "restart-by-rule",
            json!([]),
            json!([script(
                "[ $runs -gt 1 ] || exit 42; echo run $runs",
                &named("c", &rules("Restart"))
            )]),
            &["run 2"],
        ),
        pod(
            "restart-all-by-rule",
            json!([script("true", &named("i", &mount))]),
            json!([
                script(
                    "[ $runs -gt 1 ] || { until [ -f /v/other ]; do sleep 0.1; done; exit 42; }; echo init $(wc -l < /v/i) other $(wc -l < /v/other)",
                    &named("c", &rules("RestartAllContainers"))
                ),
                script(
                    "[ $runs -gt 1 ] || exec sleep 1000; echo ended",
                    &named("other", &mount)
                )
            ]),
            &["init 2 other 1", "ended"],
        ),
        pod(
            "sidecar",
            json!([script(
                "trap 'exit 0' TERM; while :; do sleep 0.1; done",
                &with(named("side", &mount), &json!({"restartPolicy": "Always"}))
            )]),
            json!([script(
                "until [ -f /v/side ]; do sleep 0.1; done; echo beside",
                &named("c", &mount)
            )]),
            &["beside"],
        ),
    ]
}

/// Limits as the kernel has them.
fn resources() -> Vec<Case> {
    let limit =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -1";
    let amounts = json!({"limits": {"memory": "64Mi", "cpu": "50m"}});
    vec![
        case(
            "limits",
            limit,
            json!({"resources": amounts}),
            json!({}),
            &["67108864"],
        ),
        case(
            "limits-of-the-pod",
            limit,
            json!({}),
            json!({"resources": amounts}),
            &["67108864"],
        ),
    ]
}
