//! How long requests of a client in the same process take, and how much memory the server needs:
//! `latency [OBJECTS]`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use knode_apiserver::{ApiServer, ApiServerConfig, Credentials, NodeBindings, TlsIdentity, UserInfo};
use knode_pki::{ApiServerSans, ControlPlanePki, IdentityFile};
use knode_store::Store;
use serde_json::{Value, json};
use tower::Service;

type Failed = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let count: usize = std::env::args().nth(1).map_or(Ok(500), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("knode-latency-{}", std::process::id()));
    let measured = measure(&dir, count).await;
    std::fs::remove_dir_all(&dir)?;
    measured
}

async fn measure(dir: &std::path::Path, count: usize) -> Result<(), Failed> {
    let begun = Instant::now();
    let api = start(dir).await?;
    println!("started in {:?}, resident {} KiB", begun.elapsed(), resident()?);
    let pods = "/api/v1/namespaces/default/pods";
    send(
        &api,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "default"}}),
    )
    .await?;
    let containers = json!([{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]);
    let mut times = Vec::new();
    for number in 0..count {
        let pod = json!({"metadata": {"name": format!("p{number}")}, "spec": {"containers": containers}});
        times.push(timed(&api, "POST", pods, pod).await?);
    }
    report("create a pod", &mut times);
    for number in 0..count {
        times.push(timed(&api, "GET", &format!("{pods}/p{number}"), Value::Null).await?);
    }
    report("get a pod", &mut times);
    for number in 0..count {
        let patch = json!({"status": {"phase": "Running", "message": number.to_string()}});
        times.push(timed(&api, "PATCH", &format!("{pods}/p{number}/status"), patch).await?);
    }
    report("patch a pod's status", &mut times);
    for _ in 0..20 {
        times.push(timed(&api, "GET", pods, Value::Null).await?);
    }
    report("list all pods", &mut times);
    println!("resident {} KiB with {count} pods", resident()?);
    Ok(())
}

async fn start(dir: &std::path::Path) -> Result<ApiServer, Failed> {
    std::fs::create_dir_all(dir)?;
    let address = SocketAddr::from(([127, 0, 0, 1], 6443));
    let sans = ApiServerSans {
        service_ip: [10, 96, 0, 1].into(),
        node_ips: vec![address.ip()],
        dns: vec![],
        cluster_domain: "cluster.local".to_owned(),
    };
    let pki = ControlPlanePki::ensure(&dir.join("pki"), &sans, jiff::Timestamp::now())?;
    let tls = |file: &IdentityFile| TlsIdentity {
        cert_pem: file.identity.cert_pem.clone(),
        key_pem: file.identity.key_pem.clone(),
    };
    let config = ApiServerConfig {
        credentials: Credentials {
            tls: tls(&pki.apiserver),
            client_ca_pem: pki.ca.cert_pem().to_owned(),
            kubelet_client: tls(&pki.kubelet_client),
        },
        node_bindings: NodeBindings::default(),
        service_account_key: Arc::new(pki.service_account.clone()),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        service_cidrs: vec!["10.96.0.0/16".parse()?],
        node_port_range: 30000..=32767,
        advertise: address,
        static_tokens: Default::default(),
    };
    let store = Store::open(dir.join("state.db")).await?;
    Ok(ApiServer::start(config, store).await?)
}

async fn send(api: &ApiServer, method: &str, path: &str, body: Value) -> Result<(), Failed> {
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let content_type = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Full::new(bytes))?;
    let mut service = api.service(UserInfo::new("admin", ["system:masters"]));
    let response = match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let code = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    if code.is_success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&body).into_owned().into())
    }
}

async fn timed(api: &ApiServer, method: &str, path: &str, body: Value) -> Result<Duration, Failed> {
    let begun = Instant::now();
    send(api, method, path, body).await?;
    Ok(begun.elapsed())
}

fn report(what: &str, times: &mut Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
    times.clear();
}

/// Resident memory of this process in KiB.
fn resident() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
