//! Requests to the API server of a cluster, by curl inside the machine.

use std::path::PathBuf;
use std::process::Command;

use knode_testkit::Process;
use serde_json::{Map, Value};

use crate::Cluster;

/// Whose certificate goes with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The administrator.
    Admin,
    /// The kubelet of `node1`.
    Node,
    /// Nobody.
    Anonymous,
}

/// Certificates and addresses to ask a cluster with.
pub struct Session<'a> {
    cluster: &'a Cluster,
    server: String,
    authority: PathBuf,
    admin: PathBuf,
    node: PathBuf,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP code.
    pub code: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Every value of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The body as JSON; a string where it is none, null where it is empty.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|_| self.body.as_str().into())
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let code = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
        if code == 100 {
            return Self::parse(body);
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        Some(Self {
            code,
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        })
    }
}

impl<'a> Session<'a> {
    /// With the certificates of this cluster.
    ///
    /// # Panics
    /// When they aren't where they should be.
    #[track_caller]
    pub fn new(cluster: &'a Cluster) -> Self {
        let text = cluster
            .kubectl("config view --raw --minify --flatten -o json")
            .ok();
        let config: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let write = |name: &str, parts: &[&Value]| {
            let path = cluster.scratch.join(name);
            let pem: String = parts
                .iter()
                .map(|p| decoded(p.as_str().unwrap_or_default()))
                .collect();
            std::fs::write(&path, pem).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            path
        };
        let named = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        Self {
            cluster,
            server: named["server"].as_str().unwrap_or_default().to_owned(),
            authority: write("ca.pem", &[&named["certificate-authority-data"]]),
            admin: write(
                "admin.pem",
                &[&user["client-certificate-data"], &user["client-key-data"]],
            ),
            node: cluster
                .scratch
                .join("data/kubelet/pki/kubelet-client-current.pem"),
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    fn curl(&self, user: User, method: &str, path: &str, headers: &Map<String, Value>) -> Command {
        let mut command = self.cluster.host.command("curl");
        command.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--path-as-is",
            "--globoff",
        ]);
        command
            .args(["--request", method])
            .arg("--cacert")
            .arg(&self.authority);
        match user {
            User::Admin => _ = command.arg("--cert").arg(&self.admin),
            User::Node => _ = command.arg("--cert").arg(&self.node),
            User::Anonymous => {}
        }
        for (name, value) in headers {
            command.args([
                "--header",
                &format!("{name}: {}", value.as_str().unwrap_or_default()),
            ]);
        }
        command.arg(format!("{}{path}", self.server));
        command
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn send(
        &self,
        user: User,
        method: &str,
        path: &str,
        headers: &Map<String, Value>,
        body: &Value,
    ) -> Answer {
        let mut command = self.curl(user, method, path, headers);
        command.args(["--include", "--max-time", "30"]);
        match body {
            Value::Null => {}
            Value::String(text) => _ = command.args(["--data-binary", text]),
            object => _ = command.args(["--data-binary", &object.to_string()]),
        }
        let output = command.output().unwrap_or_else(|e| panic!("curl: {e}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        Answer::parse(&text).unwrap_or_else(|| panic!("{method} {path}: {text}{said}"))
    }

    /// Sends JSON as the administrator.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let content = if method == "PATCH" && body.is_array() {
            "application/json-patch+json"
        } else if method == "PATCH" {
            "application/strategic-merge-patch+json"
        } else {
            "application/json"
        };
        let mut headers = Map::new();
        headers.insert("Accept".into(), "application/json".into());
        headers.insert("Content-Type".into(), content.into());
        self.send(User::Admin, method, path, &headers, body)
    }

    /// An object's or a list's JSON.
    ///
    /// # Panics
    /// When the answer isn't 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.admin("GET", path, &Value::Null);
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Creates an object.
    ///
    /// # Panics
    /// When that is refused.
    #[track_caller]
    pub fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.admin("POST", path, object);
        assert_eq!(answer.code, 201, "{path} {object}: {}", answer.body);
        answer.json()
    }

    /// A stream of lines that goes on until the value is dropped.
    #[track_caller]
    pub fn stream(&self, name: &str, path: &str) -> Process {
        self.stream_as(name, path, "application/json")
    }

    /// As [`Session::stream`], in this media type.
    #[track_caller]
    pub fn stream_as(&self, name: &str, path: &str, accept: &str) -> Process {
        let mut headers = Map::new();
        headers.insert("Accept".into(), accept.into());
        let mut command = self.curl(User::Admin, "GET", path, &headers);
        command.args(["--no-buffer"]);
        Process::spawn(name, command)
    }
}

fn decoded(text: &str) -> String {
    let value = |c: u8| -> Option<u32> {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let at = alphabet.iter().position(|a| *a == c)?;
        u32::try_from(at).ok()
    };
    let digits: Vec<u32> = text.bytes().filter_map(value).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let padded = (0..4).fold(0, |all, n| all << 6 | four.get(n).copied().unwrap_or_default());
        let [_, bytes @ ..] = padded.to_be_bytes();
        bytes.into_iter().take(four.len() - 1)
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decoded("aGVsbG8gd29ybGQ="), "hello world");
        assert_eq!(decoded("aGVsbG8gd29ybA=="), "hello worl");
    }

    #[test]
    fn an_answer_has_code_headers_and_body() {
        let answer =
            Answer::parse("HTTP/1.1 201 Created\r\nWarning: a\r\nwarning: b\r\n\r\n{\"a\":1}").expect("one");
        assert_eq!((answer.code, answer.header("Warning")), (201, vec!["a", "b"]));
        assert_eq!(answer.json(), serde_json::json!({"a": 1}));
    }
}
