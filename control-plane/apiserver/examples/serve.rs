//! A control plane's API alone, for trying it out by hand: `serve DIRECTORY PORT` serves on loopback and leaves
//! `admin.kubeconfig` in the directory.

use std::net::SocketAddr;
use std::sync::Arc;

use knode_apiserver::{ApiServer, ApiServerConfig, Credentials, NodeBindings, TlsIdentity};
use knode_pki::{ApiServerSans, ControlPlanePki, IdentityFile};
use knode_store::Store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(words.next().ok_or("usage: serve DIRECTORY PORT")?);
    let port: u16 = words.next().ok_or("usage: serve DIRECTORY PORT")?.parse()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    std::fs::create_dir_all(&dir)?;
    let sans = ApiServerSans {
        service_ip: [10, 96, 0, 1].into(),
        node_ips: vec![address.ip()],
        dns: vec![],
        cluster_domain: "cluster.local".to_owned(),
    };
    let pki = ControlPlanePki::ensure(&dir.join("pki"), &sans, jiff::Timestamp::now())?;
    pki.kubeconfig(&format!("https://{address}"), &pki.admin)
        .write(&dir.join("admin.kubeconfig"))?;
    let store = Store::open(dir.join("state.db")).await?;
    let api = ApiServer::start(config(&pki, address), store).await?;
    let listener = ApiServer::bind(address).await?;
    println!("serving on {address}");
    let end = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("cannot wait for an interrupt: {error}");
        }
    };
    api.serve(listener, end).await;
    Ok(())
}

fn config(pki: &ControlPlanePki, address: SocketAddr) -> ApiServerConfig {
    let tls = |file: &IdentityFile| TlsIdentity {
        cert_pem: file.identity.cert_pem.clone(),
        key_pem: file.identity.key_pem.clone(),
    };
    ApiServerConfig {
        credentials: Credentials {
            tls: tls(&pki.apiserver),
            client_ca_pem: pki.ca.cert_pem().to_owned(),
            kubelet_client: tls(&pki.kubelet_client),
        },
        node_bindings: NodeBindings::default(),
        service_account_key: Arc::new(pki.service_account.clone()),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        service_cidrs: vec![ipnet::IpNet::new([10, 96, 0, 0].into(), 16).unwrap_or_default()],
        node_port_range: 30000..=32767,
        advertise: address,
        static_tokens: Default::default(),
    }
}
