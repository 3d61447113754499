//! Which of a directory's files is the network (go-cni `opts.go`, ocicni `ocicni.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::list::{NetworkList, Plugin};
use super::parse::{ConfigError, finish, parse_head, parse_plugin, parse_single};

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content, or why it could not be read.
    pub content: Result<Vec<u8>, String>,
}

/// A directory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Files whose names end in `.conflist`, `.conf` or `.json`.
    pub files: Vec<ConfFile>,
    /// The `.conf` files of each directory in it, by that directory's name: more plugins for the network of this name.
    pub inner: BTreeMap<String, Vec<ConfFile>>,
}

/// A network and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The file.
    pub file: PathBuf,
    /// What it says.
    pub list: Arc<NetworkList>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub error: ConfigError,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.error)
    }
}

/// What a directory says.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The network to use, if there is one.
    pub network: Option<Network>,
    /// Files before it that would have been used if they were not broken.
    pub broken: Vec<Broken>,
}

/// Finds the network: the first file in lexical order that is whole.
pub fn load(snapshot: &Snapshot) -> Loaded {
    let mut files: Vec<_> = snapshot.files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut loaded = Loaded::default();
    for file in files {
        match parse(file, &snapshot.inner) {
            Ok(list) => {
                loaded.network = Some(Network {
                    file: file.path.clone(),
                    list: Arc::new(list),
                });
                break;
            }
            Err(broken) => loaded.broken.push(broken),
        }
    }
    loaded
}

fn parse(file: &ConfFile, inner: &BTreeMap<String, Vec<ConfFile>>) -> Result<NetworkList, Broken> {
    let broken = |error| Broken {
        file: file.path.clone(),
        error,
    };
    let bytes = content(file)?;
    if !is_list(&file.path) {
        return parse_single(bytes).map_err(broken);
    }
    let head = parse_head(bytes).map_err(broken)?;
    let mut list = head.list;
    if !head.only_inlined {
        list.plugins.extend(more(inner.get(&list.name))?);
    }
    finish(list).map_err(broken)
}

/// The plugins in the directory named after a network.
fn more(files: Option<&Vec<ConfFile>>) -> Result<Vec<Plugin>, Broken> {
    let mut files: Vec<_> = files.into_iter().flatten().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let read = |file: &ConfFile| {
        parse_plugin(content(file)?).map_err(|error| Broken {
            file: file.path.clone(),
            error,
        })
    };
    files.into_iter().map(read).collect()
}

fn content(file: &ConfFile) -> Result<&[u8], Broken> {
    file.content.as_deref().map_err(|why| Broken {
        file: file.path.clone(),
        error: ConfigError::Unreadable(why.clone()),
    })
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "conflist")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;
    use serde_json::json;

    fn file(name: &str, text: &str) -> ConfFile {
        ConfFile {
            path: Path::new("/d").join(name),
            content: Ok(text.as_bytes().to_vec()),
        }
    }

    fn load_files(files: &[(&str, &str)]) -> Loaded {
        let files = files.iter().map(|(name, text)| file(name, text)).collect();
        load(&Snapshot {
            files,
            inner: BTreeMap::new(),
        })
    }

    fn broken(name: &str, text: &str) -> String {
        let loaded = load_files(&[(name, text)]);
        assert!(loaded.network.is_none());
        loaded.broken[0].to_string()
    }

    const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"bridge"}]}"#;

    #[test]
    fn the_first_whole_file_in_lexical_order_is_the_network() {
        let loaded = load_files(&[
            ("20-b.conflist", BRIDGE),
            ("10-broken.conflist", "{\n  \"name\": \"x\",,\n}"),
            (
                "30-c.conf",
                r#"{"cniVersion":"0.3.1","name":"c","type":"macvlan"}"#,
            ),
        ]);
        let network = loaded.network.unwrap();
        assert_eq!(network.file, Path::new("/d/20-b.conflist"));
        assert_eq!(network.list.kinds().collect::<Vec<_>>(), ["bridge"]);
        assert_eq!(loaded.broken.len(), 1, "{:?}", loaded.broken);
        let told = loaded.broken[0].to_string();
        assert!(told.starts_with("/d/10-broken.conflist: "), "{told}");
        assert!(told.contains("line 2 column 15"), "{told}");
    }

    #[test]
    fn a_single_plugin_is_a_network_of_its_own() {
        let text = r#"{"cniVersion":"0.3.1","name":"c","type":"macvlan","master":"eth0"}"#;
        for name in ["1.conf", "1.json"] {
            let list = load_files(&[(name, text)]).network.unwrap().list;
            assert_eq!((list.name.as_str(), list.version), ("c", Version::V0_3_1));
            assert_eq!(list.plugins[0].config["master"], "eth0");
        }
        assert!(broken("1.conf", BRIDGE).contains(".conflist"));
        assert!(broken("1.conf", r#"{"cniVersion":"1.0.0","name":"c"}"#).contains("type: missing"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let list = |more: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n"{more}}}"#);
        let told = |more: &str| broken("1.conflist", &list(more));
        assert!(told(r#","plugins":[{"type":"a"},{}]"#).contains("plugins[1].type: missing"));
        assert!(told(r#","plugins":[{"type":"../a"}]"#).contains("plugins[0].type"));
        assert!(
            told(r#","plugins":[{"type":"a","capabilities":{"x":1}}]"#).contains("plugins[0].capabilities.x")
        );
        assert!(told(r#","plugins":[]"#).contains("plugins: the list is empty"));
        assert!(told("").contains("plugins: there are none"));
        assert!(told(r#","loadOnlyInlinedPlugins":true"#).contains("loadOnlyInlinedPlugins"));
        assert!(told(r#","disableCheck":"perhaps","plugins":[{"type":"a"}]"#).contains("disableCheck"));
        assert!(broken("1.conflist", "[]").contains("an object is needed, not a list"));
        let nameless = r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#;
        assert!(broken("1.conflist", nameless).contains("name: missing"));
        let old = r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#;
        assert!(broken("1.conflist", old).contains("cniVersion: version 0.2.0"));
        let unreadable = Snapshot {
            files: vec![ConfFile {
                path: "/d/1.conf".into(),
                content: Err("permission denied".to_owned()),
            }],
            inner: BTreeMap::new(),
        };
        assert_eq!(
            load(&unreadable).broken[0].to_string(),
            "/d/1.conf: permission denied"
        );
    }

    #[test]
    fn switches_are_taken_as_booleans_or_words() {
        let text = r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","9.9.9"],"name":"n","disableCheck":"True",
            "disableGC":true,"plugins":[{"type":"a","capabilities":{"ips":true,"mac":false}}]}"#;
        let list = load_files(&[("1.conflist", text)]).network.unwrap().list;
        assert!(list.disable_check && list.disable_gc);
        assert_eq!(list.version, Version::V1_0_0);
        assert_eq!(list.plugins[0].capabilities, ["ips".to_owned()].into());
    }

    #[test]
    fn a_directory_named_after_the_network_adds_plugins_unless_refused() {
        let snapshot = |head: &str| Snapshot {
            files: vec![file("1.conflist", head)],
            inner: [
                (
                    "n".to_owned(),
                    vec![
                        file("n/20.conf", r#"{"type":"tuning"}"#),
                        file("n/10.conf", r#"{"type":"sbr"}"#),
                    ],
                ),
                ("other".to_owned(), vec![file("other/1.conf", "rubbish")]),
            ]
            .into(),
        };
        let kinds = |head: &str| {
            let list = load(&snapshot(head)).network.unwrap().list;
            list.kinds().map(str::to_owned).collect::<Vec<_>>()
        };
        let inlined = r#","plugins":[{"type":"ptp"}]"#;
        let head = |more: &str| format!(r#"{{"cniVersion":"1.1.0","name":"n"{more}}}"#);
        assert_eq!(kinds(&head(inlined)), ["ptp", "sbr", "tuning"]);
        assert_eq!(kinds(&head("")), ["sbr", "tuning"]);
        let only = format!("{inlined},\"loadOnlyInlinedPlugins\":true");
        assert_eq!(kinds(&head(&only)), ["ptp"]);
        let mut bad = snapshot(&head(inlined));
        bad.inner.insert("n".to_owned(), vec![file("n/10.conf", "{}")]);
        assert_eq!(load(&bad).broken[0].to_string(), "/d/n/10.conf: type: missing");
    }

    #[test]
    fn a_list_written_out_reads_as_itself() {
        let text = r#"{"cniVersion":"1.0.0","name":"n","disableGC":true,
            "plugins":[{"type":"a","x":{"y":[1]}},{"type":"b","capabilities":{"mac":true}}]}"#;
        let list = load_files(&[("1.conflist", text)]).network.unwrap().list;
        let again = crate::config::parse_list(list.to_json().to_string().as_bytes()).unwrap();
        assert_eq!(again, *list);
        assert_eq!(list.to_json()["plugins"][0]["x"], json!({"y": [1]}));
    }
}
