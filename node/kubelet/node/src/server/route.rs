//! From a path to what is meant (`pkg/kubelet/server/server.go`), pure.

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// If given, the pod must still be this one.
    pub(super) uid: Option<String>,
    /// Empty for a pod as a whole.
    pub(super) container: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Healthz,
    Pods,
    RunningPods,
    Configz,
    Statusz,
    Flagz,
    StatsSummary,
    Metrics,
    ResourceMetrics,
    CadvisorMetrics,
    ProbeMetrics,
    /// A file or directory below the node's logs.
    SystemLogs(String),
    ContainerLogs(Target),
    Exec(Target),
    Attach(Target),
    PortForward(Target),
    Run(Target),
    Checkpoint(Target),
    Unknown,
}

pub(super) fn route(path: &str) -> Route {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => Route::Healthz,
        ["pods"] | ["pods", ""] => Route::Pods,
        ["runningpods"] | ["runningpods", ""] => Route::RunningPods,
        ["configz"] => Route::Configz,
        ["statusz"] => Route::Statusz,
        ["flagz"] => Route::Flagz,
        ["stats", "summary"] => Route::StatsSummary,
        ["metrics"] => Route::Metrics,
        ["metrics", "resource"] => Route::ResourceMetrics,
        ["metrics", "cadvisor"] => Route::CadvisorMetrics,
        ["metrics", "probes"] => Route::ProbeMetrics,
        ["logs", rest @ ..] => Route::SystemLogs(decode_path(&rest.join("/"))),
        ["checkpoint", namespace, pod, container] => {
            Route::Checkpoint(target(namespace, pod, None, container))
        }
        ["containerLogs", namespace, pod, container] => {
            Route::ContainerLogs(target(namespace, pod, None, container))
        }
        ["portForward", namespace, pod] => Route::PortForward(target(namespace, pod, None, "")),
        ["portForward", namespace, pod, uid] => Route::PortForward(target(namespace, pod, Some(uid), "")),
        [verb @ ("exec" | "attach" | "run"), namespace, pod, container] => {
            in_container(verb, target(namespace, pod, None, container))
        }
        [verb @ ("exec" | "attach" | "run"), namespace, pod, uid, container] => {
            in_container(verb, target(namespace, pod, Some(uid), container))
        }
        _ => Route::Unknown,
    }
}

fn in_container(verb: &str, target: Target) -> Route {
    match verb {
        "exec" => Route::Exec(target),
        "attach" => Route::Attach(target),
        _ => Route::Run(target),
    }
}

fn target(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Target {
    Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.map(str::to_owned),
        container: container.to_owned(),
    }
}

/// The parameters of a query, decoded, in order.
pub(super) fn query(text: Option<&str>) -> Vec<(String, String)> {
    let parts = text
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    };
    parts.map(pair).collect()
}

/// The first value of a parameter.
pub(super) fn first<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}

/// A path as it is meant; a plus sign in it is one.
fn decode_path(text: &str) -> String {
    decode(&text.replace('+', "%2B"))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits make a byte.
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &rest[3..];
            }
            (b'+', _, _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
