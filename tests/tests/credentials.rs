//! Plugins that have credentials for registries and are told whose image is pulled.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knode_e2e::{Cluster, Output};
use knode_testkit::{Registry, image};
use serde_json::{Value, json};

/// User `me`, password `secret`, as a registry is told them and as clients send them.
const ME: (&str, &str) = (
    "me:$2y$05$Zr4Hd3dDJ5mCJUvZhFR5bOHsX77qnjhe97xyN2oZnZa0bSFo13SOO",
    "bWU6c2VjcmV0",
);

/// Lets nodes get tokens of pods for the registry, and an account that may pull.
const RIGHTS: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tokens-for-registry}
rules:
- {verbs: [request-serviceaccounts-token-audience], apiGroups: [''], resources: [registry.example]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tokens-for-registry}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tokens-for-registry}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:nodes}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: puller, annotations: {registry.example/role: reader}}
";

#[test]
fn a_plugin_exchanges_the_pods_token_for_credentials() {
    let cluster = Cluster::up("plugin");
    let mut registry = Registry::start_with_password(&cluster.host, ME.0);
    registry.sign_in(&format!("Basic {}", ME.1));
    let app = image::busybox()
        .name("team/app:1")
        .cmd(&["sleep", "86400"])
        .build();
    let image = registry.push(&app);
    let asked = cluster.scratch.join("asked");
    let (config, dir) = (
        cluster.scratch.join("providers.json"),
        cluster.scratch.join("plugins"),
    );
    write_plugin(&dir, &asked, &registry.address());
    fs::write(&config, providers(&registry.address()).to_string()).unwrap();
    // The registry's address is known now: the node begins anew with a plugin for it.
    cluster.kill();
    let options = [
        format!("--image-credential-provider-config={}", config.display()),
        format!("--image-credential-provider-bin-dir={}", dir.display()),
    ];
    Output::of(&mut cluster.up_command(&options.each_ref().map(String::as_str))).ok();
    cluster.apply(RIGHTS).ok();

    // An account without the annotation has not asked for it: no credentials.
    cluster.apply(&pod("other", "default", &image)).ok();
    cluster.wait("pod other", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        match waiting["reason"].as_str() {
            Some("ErrImagePull" | "ImagePullBackOff") => Ok(()),
            _ => Err(pod["status"].to_string()),
        }
    });
    assert!(!asked.exists(), "the plugin has been run");

    cluster.apply(&pod("app", "puller", &image)).ok();
    let running = cluster.wait_ready("pod app");
    let request: Value = serde_json::from_slice(&fs::read(&asked).unwrap()).unwrap();
    assert_eq!(request["image"], format!("{}/team/app", registry.address()));
    assert_eq!(
        request["serviceAccountAnnotations"],
        json!({"registry.example/role": "reader"})
    );
    let token = request["serviceAccountToken"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(["registry.example"]));
    assert_eq!(claims["kubernetes.io"]["pod"]["uid"], running["metadata"]["uid"]);
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "puller");
}

/// A plugin that notes what it was asked and gives the password to who shows a token.
fn write_plugin(dir: &Path, asked: &Path, registry: &str) {
    fs::create_dir_all(dir).unwrap();
    let answer = json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry", "auth": {registry: {"username": "me", "password": "secret"}}});
    let file = asked.display();
    let script =
        format!("#!/bin/sh\ncat > {file}\ngrep -q serviceAccountToken {file} || exit 1\necho '{answer}'\n");
    let program = dir.join("exchange");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn providers(registry: &str) -> Value {
    let attributes = json!({"serviceAccountTokenAudience": "registry.example", "cacheType": "Token",
        "requireServiceAccount": true, "requiredServiceAccountAnnotationKeys": ["registry.example/role"]});
    json!({"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [{
        "name": "exchange", "matchImages": [registry], "defaultCacheDuration": "1m",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "tokenAttributes": attributes}]})
}

fn pod(name: &str, account: &str, image: &str) -> String {
    let spec = json!({"serviceAccountName": account, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": image}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}
