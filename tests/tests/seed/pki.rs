//! The certificates and kubeconfigs that the seed's machines have, under its names.

use std::process::Command;

use knode_e2e::{Output, Site};

fn openssl(site: &Site, line: &str) {
    let mut command = Command::new("openssl");
    command
        .current_dir(site.scratch.path())
        .args(line.split_whitespace());
    Output::of(&mut command).ok();
}

/// `ssl/ca.pem`, `ssl/kubernetes.pem` and `ssl/kubernetes-key.pem`: one certificate for everybody, as in the seed.
pub fn certificates(site: &Site, machines: &[&str]) {
    std::fs::create_dir_all(site.scratch.join("ssl")).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        site,
        &format!("req -x509 {key} -days 2 -subj /CN=kubernetes/O=k8s -keyout ssl/ca-key.pem -out ssl/ca.pem"),
    );
    openssl(
        site,
        &format!(
            "req -new {key} -subj /CN=kubernetes/O=k8s -keyout ssl/kubernetes-key.pem -out kubernetes.csr"
        ),
    );
    let addresses: Vec<String> = machines.iter().map(|ip| format!("IP:{ip}")).collect();
    let names = format!(
        "IP:127.0.0.1,{},DNS:kubernetes.default.svc.cluster.local",
        addresses.join(",")
    );
    let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n");
    std::fs::write(site.scratch.join("kubernetes.ext"), extensions).unwrap();
    openssl(
        site,
        "x509 -req -in kubernetes.csr -CA ssl/ca.pem -CAkey ssl/ca-key.pem -CAcreateserial -days 2 -extfile kubernetes.ext -out ssl/kubernetes.pem",
    );
}

/// `bootstrap.kubeconfig` with the token of `token.csv`, and `kube-proxy.kubeconfig` with a certificate.
pub fn kubeconfigs(site: &Site, token: &str) {
    let view = [
        "config",
        "view",
        "--raw",
        "-o",
        "jsonpath={.clusters[0].cluster.certificate-authority-data}",
    ];
    let ca = site.kubectl(&view).ok();
    let bootstrap = kubeconfig(&ca, "kubelet-bootstrap", &format!("token: {token}"));
    write(site, "bootstrap.kubeconfig", &bootstrap);
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        site,
        &format!("req -new {key} -subj /CN=system:kube-proxy -keyout kube-proxy-key.pem -out kube-proxy.csr"),
    );
    std::fs::write(
        site.scratch.join("kube-proxy.ext"),
        "extendedKeyUsage=clientAuth\n",
    )
    .unwrap();
    openssl(
        site,
        "x509 -req -in kube-proxy.csr -CA server/pki/ca.pem -CAkey server/pki/ca-key.pem -CAcreateserial -days 2 -extfile kube-proxy.ext -out kube-proxy.pem",
    );
    let data = |name: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(site.scratch.join(name)).unwrap())
    };
    let (certificate, key) = (data("kube-proxy.pem"), data("kube-proxy-key.pem"));
    let user = format!("client-certificate-data: {certificate}\n    client-key-data: {key}");
    write(
        site,
        "kube-proxy.kubeconfig",
        &kubeconfig(&ca, "kube-proxy", &user),
    );
}

fn kubeconfig(ca: &str, user: &str, credential: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    certificate-authority-data: {ca}
    server: https://10.99.0.1:6443
contexts:
- name: default
  context:
    cluster: kubernetes
    user: {user}
current-context: default
users:
- name: {user}
  user:
    {credential}
"
    )
}

fn write(site: &Site, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = site.scratch.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
