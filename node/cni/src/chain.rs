//! The order of a network's calls, and the way back when one fails.
//!
//! ADD calls forwards and, after a failure, DEL of *every* plugin backwards. DEL calls backwards and stops at the
//! first failure, to be tried again: an address is not given back while rules still lead to it.

use serde_json::Value;

use crate::attachment::Attachment;
use crate::call::{self, Call, Command};
use crate::config::NetworkList;
use crate::error::{CallError, Error, Failure, Result};
use crate::result;
use crate::version::Version;

/// Where a network's calls stand.
#[derive(Debug)]
pub(crate) enum Chain {
    /// ADD of plugin `at` is next.
    Adding { at: usize, previous: Option<Value> },
    /// ADD of plugin `at` failed; DEL of plugin `left - 1` is next.
    Undoing {
        at: usize,
        left: usize,
        failure: Failure,
        undo: Vec<Failure>,
    },
    /// DEL of plugin `left - 1` is next.
    Deleting { left: usize, previous: Option<Value> },
    /// CHECK of plugin `at` is next.
    Checking { at: usize, previous: Value },
    /// All is done; ADD has a result.
    Done(Option<Value>),
    /// It failed, and what could be undone is undone.
    Failed { failure: Failure, undo: Vec<Failure> },
}

impl Chain {
    pub fn add() -> Self {
        Self::Adding {
            at: 0,
            previous: None,
        }
    }

    /// `previous` is what ADD answered, if that is known.
    pub fn delete(list: &NetworkList, previous: Option<Value>) -> Self {
        Self::Deleting {
            left: list.plugins.len(),
            previous: previous.filter(|_| list.version >= Version::V0_4_0),
        }
    }

    pub fn check(previous: Value) -> Self {
        Self::Checking { at: 0, previous }
    }

    /// The call that is next; none when all is done or failed.
    pub fn call(&self, list: &NetworkList, attachment: &Attachment) -> Option<Call> {
        let (at, command, previous) = match self {
            Self::Adding { at, previous } => (*at, Command::Add, previous.as_ref()),
            Self::Undoing { left, .. } => (left - 1, Command::Del, None),
            Self::Deleting { left, previous } => (left - 1, Command::Del, previous.as_ref()),
            Self::Checking { at, previous } => (*at, Command::Check, Some(previous)),
            Self::Done(_) | Self::Failed { .. } => return None,
        };
        let plugin = list.plugins.get(at)?;
        Some(call::about(list, plugin, command, attachment, previous))
    }

    /// Takes the answer to the call that was next.
    pub fn step(self, list: &NetworkList, answer: Result<Vec<u8>, CallError>) -> Self {
        let count = list.plugins.len();
        match self {
            Self::Adding { at, .. } => {
                match answer.and_then(|output| Ok(result::parse(&output, list.version)?)) {
                    Ok(value) if at + 1 == count => Self::Done(Some(value)),
                    Ok(value) => Self::Adding {
                        at: at + 1,
                        previous: Some(value),
                    },
                    Err(error) => Self::Undoing {
                        at,
                        left: count,
                        failure: failure(list, at, Command::Add, error),
                        undo: Vec::new(),
                    },
                }
            }
            Self::Undoing {
                at,
                left,
                failure: cause,
                mut undo,
            } => {
                // Who never did anything because it is not there need not undo it.
                let idle = |e: &CallError| left > at && matches!(e, CallError::NotFound { .. });
                let error = answer.err().filter(|e| !idle(e));
                undo.extend(error.map(|e| failure(list, left - 1, Command::Del, e)));
                match left - 1 {
                    0 => Self::Failed { failure: cause, undo },
                    left => Self::Undoing {
                        at,
                        left,
                        failure: cause,
                        undo,
                    },
                }
            }
            Self::Deleting { left, previous } => match (answer, left - 1) {
                (Err(error), at) => Self::fail(failure(list, at, Command::Del, error)),
                (Ok(_), 0) => Self::Done(None),
                (Ok(_), left) => Self::Deleting { left, previous },
            },
            Self::Checking { at, previous } => match answer {
                Err(error) => Self::fail(failure(list, at, Command::Check, error)),
                Ok(_) if at + 1 == count => Self::Done(None),
                Ok(_) => Self::Checking { at: at + 1, previous },
            },
            ended @ (Self::Done(_) | Self::Failed { .. }) => ended,
        }
    }

    /// What came of it. A chain that has not ended has no result.
    pub fn end(self) -> Result<Option<Value>> {
        match self {
            Self::Done(result) => Ok(result),
            Self::Failed { failure, undo } => Err(Error::Plugin {
                failure: Box::new(failure),
                undo,
            }),
            Self::Adding { .. } | Self::Undoing { .. } | Self::Deleting { .. } | Self::Checking { .. } => {
                Ok(None)
            }
        }
    }

    fn fail(failure: Failure) -> Self {
        Self::Failed {
            failure,
            undo: Vec::new(),
        }
    }
}

fn failure(list: &NetworkList, at: usize, command: Command, error: CallError) -> Failure {
    Failure {
        plugin: list.plugins.get(at).map(|p| p.kind.clone()).unwrap_or_default(),
        network: list.name.clone(),
        command,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_list;
    use crate::error::{PluginError, chain as told};
    use serde_json::{Map, json};

    fn list(version: &str) -> NetworkList {
        let plugins: Vec<_> = ["a", "b", "c"].map(|t| json!({"type": t})).into();
        let text = json!({"cniVersion": version, "name": "n", "plugins": plugins}).to_string();
        parse_list(text.as_bytes()).unwrap()
    }

    fn failed() -> CallError {
        CallError::Plugin(PluginError {
            code: 7,
            msg: "no".to_owned(),
            details: "really".to_owned(),
        })
    }

    /// Runs a chain over plugins that fail where `fails` says so; answers the calls made and the end.
    fn run(mut chain: Chain, list: &NetworkList, fails: &[&str]) -> (Vec<String>, Result<Option<Value>>) {
        let attachment = Attachment {
            container_id: "c".to_owned(),
            netns: "/n".into(),
            interface: "eth0".to_owned(),
            args: Vec::new(),
            capabilities: Map::new(),
        };
        let mut calls = Vec::new();
        while let Some(call) = chain.call(list, &attachment) {
            let stdin: Value = serde_json::from_slice(&call.stdin).unwrap();
            let previous = stdin["prevResult"]["dns"]["domain"].as_str().unwrap_or("-");
            let name = format!("{} {}", call.command, call.plugin);
            calls.push(format!("{name} {previous}"));
            let answer = if fails.contains(&name.as_str()) {
                Err(failed())
            } else {
                let result = json!({"cniVersion": list.version.as_str(), "dns": {"domain": call.plugin}});
                Ok(result.to_string().into_bytes())
            };
            chain = chain.step(list, answer);
            assert!(calls.len() < 20, "no end: {calls:?}");
        }
        (calls, chain.end())
    }

    #[test]
    fn adding_passes_each_result_on() {
        let (calls, end) = run(Chain::add(), &list("1.0.0"), &[]);
        assert_eq!(calls, ["ADD a -", "ADD b a", "ADD c b"]);
        assert_eq!(end.unwrap().unwrap()["dns"]["domain"], "c");
    }

    #[test]
    fn a_failed_add_is_taken_back_by_all_plugins() {
        let (calls, end) = run(Chain::add(), &list("1.0.0"), &["ADD b"]);
        assert_eq!(calls, ["ADD a -", "ADD b a", "DEL c -", "DEL b -", "DEL a -"]);
        let error = end.unwrap_err();
        assert_eq!(
            told(&error),
            r#"plugin type="b" name="n" failed (add): no; really (code 7)"#
        );
        let (calls, end) = run(Chain::add(), &list("1.0.0"), &["ADD c", "DEL c"]);
        assert_eq!(calls[3..], ["DEL c -", "DEL b -", "DEL a -"], "undoing goes on");
        let told = told(&end.unwrap_err());
        assert!(
            told.contains(r#"not undone: plugin type="c" name="n" failed (delete): no"#),
            "{told}"
        );
    }

    #[test]
    fn a_plugin_that_is_not_there_has_nothing_to_undo() {
        let missing = || CallError::NotFound {
            plugin: "b".to_owned(),
            path: Vec::new(),
        };
        let undone = |at: usize| {
            let list = list("1.0.0");
            let mut chain = Chain::Undoing {
                at,
                left: 3,
                failure: failure(&list, at, Command::Add, missing()),
                undo: Vec::new(),
            };
            while matches!(chain, Chain::Undoing { .. }) {
                chain = chain.step(&list, Err(missing()));
            }
            match chain {
                Chain::Failed { undo, .. } => undo.into_iter().map(|f| f.plugin).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(undone(0), Vec::<String>::new());
        assert_eq!(undone(2), ["b", "a"], "they did something, and are gone");
    }

    #[test]
    fn deleting_goes_backwards_and_stops_where_it_fails() {
        let (previous, list) = (json!({"dns": {"domain": "z"}}), list("0.4.0"));
        let (calls, end) = run(Chain::delete(&list, Some(previous.clone())), &list, &[]);
        assert_eq!(calls, ["DEL c z", "DEL b z", "DEL a z"]);
        assert!(end.unwrap().is_none());
        let (calls, end) = run(Chain::delete(&list, Some(previous)), &list, &["DEL b"]);
        assert_eq!(calls, ["DEL c z", "DEL b z"]);
        assert!(told(&end.unwrap_err()).contains("failed (delete)"));
    }

    #[test]
    fn versions_before_0_4_0_do_not_get_results_for_deleting() {
        let list = list("0.3.1");
        let (calls, _) = run(
            Chain::delete(&list, Some(json!({"dns": {"domain": "z"}}))),
            &list,
            &[],
        );
        assert_eq!(calls, ["DEL c -", "DEL b -", "DEL a -"]);
    }

    #[test]
    fn checking_goes_forwards_with_the_last_result() {
        let (previous, list) = (json!({"dns": {"domain": "z"}}), list("1.0.0"));
        let (calls, end) = run(Chain::check(previous.clone()), &list, &[]);
        assert_eq!(calls, ["CHECK a z", "CHECK b z", "CHECK c z"]);
        assert!(end.is_ok());
        let (calls, end) = run(Chain::check(previous), &list, &["CHECK a"]);
        assert_eq!(calls, ["CHECK a z"]);
        assert!(end.is_err());
    }

    #[test]
    fn a_result_that_is_none_fails_the_add() {
        let list = list("1.0.0");
        let chain = Chain::add().step(&list, Ok(Vec::new()));
        assert!(matches!(chain, Chain::Undoing { left: 3, .. }), "{chain:?}");
    }
}
