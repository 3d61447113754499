//! One call of a plugin: its environment and its input (`libcni/api.go`, `pkg/invoke/args.go`).

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::attachment::Attachment;
use crate::config::{NetworkList, Plugin};
use crate::version::Version;

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Say whether it is attached as it was.
    Check,
    /// Say whether containers can be attached.
    Status,
    /// Forget all attachments but these.
    Gc,
    /// Say which versions are spoken.
    Version,
}

impl Command {
    /// As plugins are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// As upstream's messages call it.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Del => "delete",
            Self::Check => "check",
            Self::Status => "status",
            Self::Gc => "gc",
            Self::Version => "version",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call, but for where the program lies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub plugin: String,
    pub network: String,
    pub command: Command,
    /// The specification's variables without `CNI_PATH`.
    pub env: Vec<(&'static str, String)>,
    pub stdin: Vec<u8>,
}

/// A call about an attachment: `prevResult` passed through, `runtimeConfig` for what the plugin declares.
pub(crate) fn about(
    list: &NetworkList,
    plugin: &Plugin,
    command: Command,
    attachment: &Attachment,
    previous: Option<&Value>,
) -> Call {
    let mut config = plugin.config.clone();
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone());
    }
    let told: Map<String, Value> = attachment
        .capabilities
        .iter()
        .filter(|(name, _)| plugin.capabilities.contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !told.is_empty() {
        config.insert("runtimeConfig".to_owned(), told.into());
    }
    let args: Vec<_> = attachment.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let env = vec![
        ("CNI_COMMAND", command.as_str().to_owned()),
        ("CNI_CONTAINERID", attachment.container_id.clone()),
        ("CNI_NETNS", attachment.netns.display().to_string()),
        ("CNI_IFNAME", attachment.interface.clone()),
        ("CNI_ARGS", args.join(";")),
    ];
    finish(list, plugin, command, env, config)
}

/// STATUS.
pub(crate) fn status(list: &NetworkList, plugin: &Plugin) -> Call {
    let env = vec![("CNI_COMMAND", Command::Status.as_str().to_owned())];
    finish(list, plugin, Command::Status, env, plugin.config.clone())
}

/// GC: `valid` are the containers and interfaces that are attached.
pub(crate) fn gc(list: &NetworkList, plugin: &Plugin, valid: &[(String, String)]) -> Call {
    let entry =
        |(container, interface): &(String, String)| json!({"containerID": container, "ifname": interface});
    let valid: Vec<_> = valid.iter().map(entry).collect();
    let mut config = plugin.config.clone();
    config.insert("cni.dev/valid-attachments".to_owned(), valid.into());
    let env = vec![("CNI_COMMAND", Command::Gc.as_str().to_owned())];
    finish(list, plugin, Command::Gc, env, config)
}

/// VERSION; plugins of old want the other variables too, whatever they hold (`pkg/invoke/exec.go`).
pub(crate) fn version(list: &NetworkList, plugin: &Plugin) -> Call {
    let env = vec![
        ("CNI_COMMAND", Command::Version.as_str().to_owned()),
        ("CNI_NETNS", "dummy".to_owned()),
        ("CNI_IFNAME", "dummy".to_owned()),
        ("CNI_CONTAINERID", "dummy".to_owned()),
    ];
    let config = [(
        "cniVersion".to_owned(),
        json!(Version::ALL[Version::ALL.len() - 1].as_str()),
    )];
    Call {
        plugin: plugin.kind.clone(),
        network: list.name.clone(),
        command: Command::Version,
        env,
        stdin: json!(Map::from_iter(config)).to_string().into_bytes(),
    }
}

/// Every plugin of a network gets the network's name and version.
fn finish(
    list: &NetworkList,
    plugin: &Plugin,
    command: Command,
    env: Vec<(&'static str, String)>,
    mut config: Map<String, Value>,
) -> Call {
    config.insert("name".to_owned(), list.name.clone().into());
    config.insert("cniVersion".to_owned(), list.version.as_str().into());
    Call {
        plugin: plugin.kind.clone(),
        network: list.name.clone(),
        command,
        env,
        stdin: Value::Object(config).to_string().into_bytes(),
    }
}

/// `CNI_PATH`.
pub(crate) fn search_path(dirs: &[PathBuf]) -> String {
    dirs.iter()
        .map(|d| d.display().to_string())
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_list;

    fn list() -> NetworkList {
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[
            {"type":"bridge","isGateway":true},
            {"type":"portmap","name":"its own","capabilities":{"portMappings":true,"ips":false}}]}"#;
        parse_list(text.as_bytes()).unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            container_id: "c1".to_owned(),
            netns: "/run/netns/c1".into(),
            interface: "eth0".to_owned(),
            args: [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "p")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            capabilities: [("portMappings", json!([1])), ("ips", json!(["10.0.0.1/8"]))]
                .map(|(k, v)| (k.to_owned(), v))
                .into_iter()
                .collect(),
        }
    }

    fn stdin(call: &Call) -> Value {
        serde_json::from_slice(&call.stdin).unwrap()
    }

    #[test]
    fn a_plugin_is_told_the_network_the_previous_result_and_what_it_declares() {
        let (list, attachment) = (list(), attachment());
        let first = about(&list, &list.plugins[0], Command::Add, &attachment, None);
        let expected = json!({"type": "bridge", "isGateway": true, "name": "n", "cniVersion": "1.0.0"});
        assert_eq!(stdin(&first), expected);
        let env: Vec<_> = first.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let expected = [
            "CNI_COMMAND=ADD",
            "CNI_CONTAINERID=c1",
            "CNI_NETNS=/run/netns/c1",
            "CNI_IFNAME=eth0",
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=p",
        ];
        assert_eq!(env, expected);
        let previous = json!({"ips": []});
        let second = about(
            &list,
            &list.plugins[1],
            Command::Add,
            &attachment,
            Some(&previous),
        );
        let seen = stdin(&second);
        assert_eq!(seen["prevResult"], previous);
        assert_eq!(seen["name"], "n");
        assert_eq!(seen["runtimeConfig"], json!({"portMappings": [1]}));
    }

    #[test]
    fn garbage_collection_names_what_is_alive() {
        let list = list();
        let call = gc(&list, &list.plugins[0], &[("c1".to_owned(), "eth0".to_owned())]);
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
        assert_eq!(stdin(&call)["cni.dev/valid-attachments"], valid);
        assert_eq!(call.env, [("CNI_COMMAND", "GC".to_owned())]);
    }
}
