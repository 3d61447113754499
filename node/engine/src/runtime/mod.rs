//! OCI runtimes by runtime handler: the linked-in one, and programs that a configuration names.

mod creator;
mod features;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use knode_cri::{RuntimeHandler, RuntimeHandlerFeatures};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::error::{EngineError, Result};

pub(crate) use creator::{delete, make};

/// An OCI runtime that is a program of its own, with the command line that runc and crun have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciProgram {
    /// The program, absolute.
    pub path: PathBuf,
    /// Options that come before its command, such as `--debug`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// Why runtimes cannot be configured so.
#[derive(Debug, thiserror::Error)]
pub enum RuntimesError {
    /// The name of a handler is that of the default.
    #[error("a runtime handler needs a name")]
    Unnamed,
    /// The default is none of them.
    #[error("the default runtime {0:?} is not among those configured")]
    NoSuchDefault(String),
    /// The file is no program.
    #[error("runtime {handler:?}: {} is not an executable file", path.display())]
    NoProgram {
        /// Name of the handler.
        handler: String,
        /// The file.
        path: PathBuf,
    },
}

/// The OCI runtimes of an engine, by name of their runtime handler. Without a name it is the linked-in one, unless
/// another is the default.
#[derive(Debug, Clone, Default)]
pub struct Runtimes {
    programs: BTreeMap<String, OciProgram>,
    default: Option<String>,
    /// What programs can do is asked once.
    features: Arc<OnceCell<BTreeMap<String, RuntimeHandlerFeatures>>>,
}

impl Runtimes {
    /// Runtimes by handler; `default` is the handler of pods that name none.
    ///
    /// # Errors
    /// [`RuntimesError`] for a name or a program that cannot be.
    pub fn new(
        programs: BTreeMap<String, OciProgram>,
        default: Option<String>,
    ) -> std::result::Result<Self, RuntimesError> {
        for (handler, program) in &programs {
            if handler.is_empty() {
                return Err(RuntimesError::Unnamed);
            }
            if !features::is_executable(&program.path) {
                return Err(RuntimesError::NoProgram {
                    handler: handler.clone(),
                    path: program.path.clone(),
                });
            }
        }
        if let Some(name) = default.as_ref().filter(|name| !programs.contains_key(*name)) {
            return Err(RuntimesError::NoSuchDefault(name.clone()));
        }
        Ok(Self {
            programs,
            default,
            features: Arc::default(),
        })
    }

    /// The program of a handler, `None` for the linked-in runtime.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a handler that is not configured.
    pub(crate) fn of(&self, handler: &str) -> Result<Option<&OciProgram>> {
        if handler.is_empty() {
            let default = self.default.as_ref();
            return Ok(default.and_then(|name| self.programs.get(name)));
        }
        let unknown = || EngineError::Invalid(format!("no runtime for {handler:?} is configured"));
        self.programs.get(handler).map(Some).ok_or_else(unknown)
    }

    /// All handlers, the nameless one first, with what they can do; `linked_in` is what the linked-in runtime can.
    pub(crate) async fn handlers(&self, linked_in: RuntimeHandlerFeatures) -> Vec<RuntimeHandler> {
        let known = self
            .features
            .get_or_init(|| features::ask(self.programs.clone()))
            .await;
        // A program can do no more than the engine asks of it.
        let of = |name: &str| {
            let own = known.get(name).copied().unwrap_or_default();
            RuntimeHandlerFeatures {
                recursive_read_only_mounts: own.recursive_read_only_mounts
                    && linked_in.recursive_read_only_mounts,
                user_namespaces: own.user_namespaces && linked_in.user_namespaces,
            }
        };
        let nameless = self.default.as_deref().map_or(linked_in, of);
        let named = self.programs.keys().map(|name| (name.clone(), of(name)));
        std::iter::once((String::new(), nameless))
            .chain(named)
            .map(|(name, features)| RuntimeHandler {
                name,
                features: Some(features),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str) -> OciProgram {
        OciProgram {
            path: path.into(),
            options: Vec::new(),
        }
    }

    fn of(pairs: &[(&str, &str)], default: Option<&str>) -> std::result::Result<Runtimes, RuntimesError> {
        let programs = pairs
            .iter()
            .map(|(name, path)| ((*name).to_owned(), program(path)));
        Runtimes::new(programs.collect(), default.map(str::to_owned))
    }

    #[test]
    fn a_handler_is_a_program_and_none_is_the_default() {
        let plain = of(&[("other", "/bin/sh")], None).unwrap();
        assert_eq!(plain.of("").unwrap(), None);
        assert_eq!(plain.of("other").unwrap(), Some(&program("/bin/sh")));
        let unknown = plain.of("kata").unwrap_err().to_string();
        assert_eq!(unknown, "no runtime for \"kata\" is configured");
        let changed = of(&[("other", "/bin/sh")], Some("other")).unwrap();
        assert_eq!(changed.of("").unwrap(), Some(&program("/bin/sh")));
    }

    #[test]
    fn what_cannot_be_configured_is_refused_by_name() {
        let refused = |pairs: &[(&str, &str)], default| of(pairs, default).unwrap_err().to_string();
        assert!(refused(&[("gone", "/no/such/runtime")], None).contains("/no/such/runtime"));
        assert!(refused(&[("file", "/etc/passwd")], None).contains("not an executable file"));
        assert!(refused(&[("", "/bin/sh")], None).contains("name"));
        assert!(refused(&[], Some("runc")).contains("\"runc\""));
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_of_itself_has_no_features() {
        let linked_in = RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        let handlers = of(&[("mute", "/bin/true")], None)
            .unwrap()
            .handlers(linked_in)
            .await;
        let names: Vec<_> = handlers.iter().map(|handler| handler.name.as_str()).collect();
        assert_eq!(names, ["", "mute"]);
        assert_eq!(handlers[0].features, Some(linked_in));
        assert_eq!(handlers[1].features, Some(RuntimeHandlerFeatures::default()));
    }
}
