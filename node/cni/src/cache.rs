//! What each container was attached with: libcni's files (`results/<network>-<container>-<interface>`), so that an
//! attachment is taken back with the configuration it was made with, whatever became of the directory since.
//!
//! A record is written before the first plugin is called and completed with the result afterwards: after a crash in
//! between the attachment is known, and is taken back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attachment::Attachment;
use crate::config::{NetworkList, parse_list};
use crate::error::{Error, Result};

/// What libcni marks its files with.
const KIND: &str = "cniCacheV1";

/// A container's attachment to a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    kind: String,
    pub container_id: String,
    /// The network's configuration, base64.
    config: String,
    #[serde(rename = "ifName")]
    pub interface: String,
    #[serde(rename = "networkName")]
    pub network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    /// What ADD answered; none while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Where the plugins lay. libcni does not have it and does not mind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_path: Vec<PathBuf>,
}

impl Record {
    pub fn new(list: &NetworkList, attachment: &Attachment, path: &[PathBuf]) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: STANDARD.encode(list.to_json().to_string()),
            interface: attachment.interface.clone(),
            network: list.name.clone(),
            netns: Some(attachment.netns.clone()),
            cni_args: attachment.args.clone(),
            capability_args: attachment.capabilities.clone(),
            result: None,
            cni_path: path.to_vec(),
        }
    }

    /// What was attached.
    pub fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            netns: self.netns.clone().unwrap_or_default(),
            interface: self.interface.clone(),
            args: self.cni_args.clone(),
            capabilities: self.capability_args.clone(),
        }
    }

    /// What it was attached to.
    pub fn list(&self) -> Result<NetworkList, io::Error> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let text = STANDARD
            .decode(&self.config)
            .map_err(|e| invalid(e.to_string()))?;
        parse_list(&text).map_err(|e| invalid(e.to_string()))
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{}", self.network, self.container_id, self.interface)
    }
}

/// The directory of records.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    results: PathBuf,
}

impl Cache {
    pub fn new(dir: &Path) -> Self {
        Self {
            results: dir.join("results"),
        }
    }

    /// Where a record lies.
    pub fn path(&self, record: &Record) -> PathBuf {
        self.results.join(record.file_name())
    }

    /// Writes a record so that it survives a crash, whole or not at all.
    pub fn write(&self, record: &Record) -> Result<()> {
        let path = self.path(record);
        self.replace(&path, record).map_err(failed("write", &path))
    }

    fn replace(&self, path: &Path, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.results)?;
        let temporary = self.results.join(format!(".{}", record.file_name()));
        let mut file = File::create(&temporary)?;
        file.write_all(serde_json::to_string(record)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.results)?.sync_all()
    }

    /// Removes a record; one that is not there is no error.
    pub fn remove(&self, record: &Record) -> Result<()> {
        let path = self.path(record);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// The attachments of a container.
    pub fn of(&self, container: &str) -> Result<Vec<Record>> {
        let part = format!("-{container}-");
        let mut found = self.read(|name| name.contains(&part))?;
        found.retain(|r| r.container_id == container);
        Ok(found)
    }

    /// All attachments.
    pub fn all(&self) -> Result<Vec<Record>> {
        self.read(|_| true)
    }

    fn read(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.results) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("look for", &self.results))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("look for", &self.results))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || !wanted(&name) {
                continue;
            }
            match read_one(&entry.path()) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!(
                    path = %entry.path().display(),
                    error = &error as &dyn std::error::Error,
                    "a record of an attachment is not usable"
                ),
            }
        }
        records.sort_by_key(Record::file_name);
        Ok(records)
    }
}

fn read_one(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    if record.kind == KIND {
        Ok(record)
    } else {
        let why = format!("its kind is {:?}, not {KIND}", record.kind);
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_testkit::Scratch;
    use serde_json::json;

    fn record(container: &str) -> Record {
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}]}"#;
        let attachment = Attachment {
            container_id: container.to_owned(),
            netns: "/run/netns/x".into(),
            interface: "eth0".to_owned(),
            args: vec![("IgnoreUnknown".to_owned(), "1".to_owned())],
            capabilities: [("mac".to_owned(), json!("02:00:00:00:00:01"))]
                .into_iter()
                .collect(),
        };
        Record::new(
            &parse_list(text.as_bytes()).unwrap(),
            &attachment,
            &["/bin".into()],
        )
    }

    #[test]
    fn records_survive_and_are_found_by_their_container() {
        let scratch = Scratch::new("cni-cache");
        let cache = Cache::new(scratch.path());
        assert_eq!(cache.of("one").unwrap(), []);
        let (one, other) = (record("one"), record("one-other"));
        for r in [&one, &other] {
            cache.write(r).unwrap();
        }
        assert_eq!(cache.of("one").unwrap(), std::slice::from_ref(&one));
        assert_eq!(cache.all().unwrap().len(), 2);
        let found = &cache.of("one").unwrap()[0];
        assert_eq!(found.attachment(), one.attachment());
        assert_eq!(found.list().unwrap().plugins[0].kind, "a");
        cache.remove(&one).unwrap();
        cache.remove(&one).expect("twice is no error");
        assert_eq!(cache.of("one").unwrap(), []);
    }

    #[test]
    fn a_record_is_as_libcni_writes_it() {
        let scratch = Scratch::new("cni-cache");
        let cache = Cache::new(scratch.path());
        cache.write(&record("c1")).unwrap();
        let text = fs::read(scratch.join("results/n-c1-eth0")).unwrap();
        let seen: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(seen["kind"], "cniCacheV1");
        assert_eq!(
            (&seen["containerId"], &seen["ifName"]),
            (&json!("c1"), &json!("eth0"))
        );
        assert_eq!(
            (&seen["networkName"], &seen["netns"]),
            (&json!("n"), &json!("/run/netns/x"))
        );
        assert_eq!(seen["cniArgs"], json!([["IgnoreUnknown", "1"]]));
        let config = STANDARD.decode(seen["config"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&config).unwrap()["name"], "n");
    }

    #[test]
    fn what_is_not_a_record_is_passed_over() {
        let scratch = Scratch::new("cni-cache");
        let cache = Cache::new(scratch.path());
        cache.write(&record("c1")).unwrap();
        for (name, text) in [("n-c2-eth0", "{"), ("n-c3-eth0", "{}"), (".n-c4-eth0", "{}")] {
            fs::write(scratch.join("results").join(name), text).unwrap();
        }
        assert_eq!(cache.all().unwrap().len(), 1);
    }
}
