//! Machines join by one line: a URL, a token and a hash.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Output, ROOMY, Site, binary};
use knode_testkit::wait_until;

/// `knode token` with the administrator's kubeconfig.
fn token(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.hosts[0].command(binary());
    command.arg("token").args(arguments);
    command.args(["--kubeconfig", &site.path("admin.kubeconfig")]);
    Output::of(&mut command)
}

/// The words of a join line after `knode`.
fn join_line(site: &Site) -> Vec<String> {
    let line = token(site, &["create", "--description", "for the test"])
        .result()
        .unwrap();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        (words[0].as_str(), words[1].as_str()),
        ("knode", "join"),
        "{line}"
    );
    words[1..].to_vec()
}

fn join(site: &mut Site, line: &[String], name: &str, host: usize) {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    site.start(name, host, &[&words, &["--node-name", name, ROOMY][..]].concat());
}

/// A join that is refused, in the foreground to its end.
fn refused(site: &Site, words: &[&str]) -> Output {
    let mut command = site.hosts[1].command(binary());
    command
        .args(words)
        .arg("--data-dir")
        .arg(site.scratch.join("refused"));
    let output = Output::of(&mut command);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        !site.scratch.join("refused/bootstrap.kubeconfig").exists(),
        "a refused join keeps nothing"
    );
    output
}

#[test]
fn three_machines_join_by_token_and_are_found_again() {
    let mut site = Site::new("join", 3);
    site.server(&["--pod-cidr", "172.29.0.0/16", "--service-cidr", "10.253.0.0/16"]);
    let line = join_line(&site);
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        join(&mut site, &line, name, n);
    }
    let nodes = site.all_ready(&["nodes"], 3);
    for node in &nodes {
        // The cluster has told its ranges; nobody repeated them on the nodes.
        let cidr = node["spec"]["podCIDR"].as_str().unwrap();
        assert!(cidr.starts_with("172.29."), "{cidr}");
    }
    let id = line[3].split('.').next().unwrap();
    let listed = token(&site, &["list"]).result().unwrap();
    assert!(listed.contains(id) && listed.contains("for the test"), "{listed}");
    assert!(
        !listed.contains(&line[3]),
        "the secret half is not shown: {listed}"
    );
    token(&site, &["delete", id]).ok();

    // The token is gone; the machine has its own identity and is taken up again.
    site.kill("two");
    wait_until("the token to be forgotten", BOUND, || {
        let secrets = site
            .kubectl(&["get", "secrets", "-n", "kube-system", "-o", "name"])
            .result()?;
        if secrets.contains(id) {
            Err(secrets)
        } else {
            Ok(())
        }
    });
    join(&mut site, &line, "two", 1);
    wait_until("the second node to be taken up again", BOUND, || {
        let log = site.log("two");
        log.contains("the node is Ready").then_some(()).ok_or(log)
    });
}

#[test]
fn a_cluster_that_cannot_be_trusted_is_not_joined() {
    let mut site = Site::new("distrust", 2);
    site.server(&[]);
    let line = join_line(&site);
    let [_, url, _, good, _, hash] = [0, 1, 2, 3, 4, 5].map(|n| line[n].as_str());
    let (id, secret) = good.split_once('.').unwrap();
    let flipped: String = secret.chars().rev().collect();
    let (wrong_secret, unknown) = (format!("{id}.{flipped}"), format!("zzzzzz.{secret}"));
    let other_hash = format!("sha256:{}", "0".repeat(64));

    // The signature follows the token within moments; before that the token is not known.
    wait_until("the signature of the token", BOUND, || {
        let seen = refused(&site, &["join", url, "--token", &wrong_secret, "--ca-hash", hash]).to_string();
        seen.contains("isn't by this token").then_some(()).ok_or(seen)
    });
    let cases = [
        (
            vec!["join", url, "--token", &unknown, "--ca-hash", hash],
            "knows no token zzzzzz",
        ),
        (
            vec!["join", url, "--token", good, "--ca-hash", &other_hash],
            "another cluster",
        ),
        (
            vec!["join", url, "--token", good, "--ca-hash", "sha256:12"],
            "64 hexadecimal digits",
        ),
        (vec!["join", url, "--token", good], "--ca-hash"),
        (
            vec!["join", "https://10.99.0.1:1", "--token", good, "--ca-hash", hash],
            "https://10.99.0.1:1",
        ),
        (
            vec![
                "join",
                "http://10.99.0.1:6443",
                "--token",
                good,
                "--ca-hash",
                hash,
            ],
            "https://",
        ),
        (vec!["join", url, "--token", "short", "--ca-hash", hash], "short"),
    ];
    for (words, says) in cases {
        let output = refused(&site, &words).to_string();
        assert!(output.contains(says), "{words:?}: no {says:?} in {output}");
    }
}
