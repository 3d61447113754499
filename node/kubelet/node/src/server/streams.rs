//! exec, attach, port-forward and run: the runtime does them, this only finds the container and the way.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use knode_cri::{
    AttachRequest, ExecRequest, ExecSyncRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue, PortForwardRequest,
};

use super::Kubelet;
use super::body::{Answer, TEXT, full, runtime_error, text};
use super::route::{Target, first};
use super::tunnel::tunnel;
use crate::pods::running_container_id;

type Query = [(String, String)];

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Streams {
    pub(super) fn parse(query: &Query) -> Option<Self> {
        let set = |key: &str| first(query, key) == Some("1");
        let tty = set("tty");
        // A terminal has one output.
        let stderr = set("error") && !tty;
        let streams = Self {
            stdin: set("input"),
            stdout: set("output"),
            stderr,
            tty,
        };
        (streams.stdin || streams.stdout || streams.stderr).then_some(streams)
    }
}

fn no_streams() -> Answer {
    text(
        StatusCode::BAD_REQUEST,
        "you must specify at least 1 of stdin, stdout, stderr",
    )
}

fn internal(message: String) -> Box<Answer> {
    Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, message))
}

/// The running container that is meant.
fn container_id(kubelet: &Kubelet, target: &Target) -> Result<String, Box<Answer>> {
    let pod = kubelet.pods.pod(&target.namespace, &target.pod);
    let same = |pod: &std::sync::Arc<k8s_openapi::api::core::v1::Pod>| {
        target
            .uid
            .as_ref()
            .is_none_or(|uid| pod.metadata.uid.as_ref() == Some(uid))
    };
    let missing = || Box::new(text(StatusCode::NOT_FOUND, "pod does not exist"));
    let pod = pod.filter(same).ok_or_else(missing)?;
    let id = running_container_id(&pod, &target.container);
    id.ok_or_else(|| internal(format!("container not found ({:?})", target.container)))
}

pub(super) async fn exec(
    kubelet: &Kubelet,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let Some(streams) = Streams::parse(query) else {
        return no_streams();
    };
    let container_id = match container_id(kubelet, target) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let cmd = query
        .iter()
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value.clone())
        .collect();
    let Streams {
        stdin,
        stdout,
        stderr,
        tty,
    } = streams;
    let ask = ExecRequest {
        container_id,
        cmd,
        tty,
        stdin,
        stdout,
        stderr,
    };
    match kubelet.runtime.exec(ask).await {
        Ok(answer) => tunnel(&answer.url, request).await,
        Err(error) => runtime_error(&error),
    }
}

pub(super) async fn attach(
    kubelet: &Kubelet,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let Some(streams) = Streams::parse(query) else {
        return no_streams();
    };
    let container_id = match container_id(kubelet, target) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let Streams {
        stdin,
        stdout,
        stderr,
        tty,
    } = streams;
    let ask = AttachRequest {
        container_id,
        stdin,
        tty,
        stdout,
        stderr,
    };
    match kubelet.runtime.attach(ask).await {
        Ok(answer) => tunnel(&answer.url, request).await,
        Err(error) => runtime_error(&error),
    }
}

pub(super) async fn port_forward(kubelet: &Kubelet, target: &Target, request: Request<Incoming>) -> Answer {
    let pod_sandbox_id = match sandbox_id(kubelet, target).await {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    // WebSocket clients of old name the ports in the query; SPDY clients name one per stream.
    let query = super::route::query(request.uri().query());
    let ports = query.iter().filter(|(key, _)| key == "port" || key == "ports");
    let port = ports
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|port| port.parse().ok())
        .collect();
    match kubelet
        .runtime
        .port_forward(PortForwardRequest { pod_sandbox_id, port })
        .await
    {
        Ok(answer) => tunnel(&answer.url, request).await,
        Err(error) => runtime_error(&error),
    }
}

async fn sandbox_id(kubelet: &Kubelet, target: &Target) -> Result<String, Box<Answer>> {
    let missing = || Box::new(text(StatusCode::NOT_FOUND, "pod does not exist"));
    let pod = kubelet
        .pods
        .pod(&target.namespace, &target.pod)
        .ok_or_else(missing)?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if target.uid.as_ref().is_some_and(|wanted| *wanted != uid) {
        return Err(missing());
    }
    let filter = PodSandboxFilter {
        state: Some(PodSandboxStateValue {
            state: PodSandboxState::SandboxReady as i32,
        }),
        label_selector: [("io.kubernetes.pod.uid".to_owned(), uid)].into(),
        ..PodSandboxFilter::default()
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let listed = kubelet.runtime.list_pod_sandbox(request).await;
    let mut sandboxes = listed.map_err(|error| Box::new(runtime_error(&error)))?.items;
    sandboxes.sort_by_key(|sandbox| sandbox.created_at);
    let newest = sandboxes.pop();
    let none = || {
        let name = format!("{}_{}", target.pod, target.namespace);
        internal(format!("could not find pod sandbox(es) for pod {name:?}"))
    };
    newest.map(|sandbox| sandbox.id).ok_or_else(none)
}

/// `POST /run/…?cmd=…`: runs a command to its end and answers with its output.
pub(super) async fn run(kubelet: &Kubelet, target: &Target, query: &Query) -> Answer {
    let container_id = match container_id(kubelet, target) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    let command = first(query, "cmd").unwrap_or_default();
    let cmd = command.split(' ').map(str::to_owned).collect();
    // No limit, as upstream.
    let timeout = 0;
    let answer = match kubelet
        .runtime
        .exec_sync(ExecSyncRequest {
            container_id,
            cmd,
            timeout,
        })
        .await
    {
        Ok(answer) => answer,
        Err(error) => return runtime_error(&error),
    };
    if answer.exit_code != 0 {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "command '{command}' exited with {}: {}",
                answer.exit_code,
                String::from_utf8_lossy(&answer.stderr)
            ),
        );
    }
    let mut output = answer.stdout;
    output.extend_from_slice(&answer.stderr);
    full(StatusCode::OK, TEXT, output)
}
