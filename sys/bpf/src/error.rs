use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel tells nothing of its types (`CONFIG_DEBUG_INFO_BTF`).
    #[error("the kernel's types in {path} cannot be read")]
    Types {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The description of the kernel's types ends early or has another form.
    #[error("the kernel's types are not understood: {0}")]
    Malformed(&'static str),
    /// This kernel lacks a type or a function that the program uses.
    #[error("this kernel has no {0}")]
    Missing(String),
    /// A jump is too far, or its label was never placed.
    #[error("program cannot be assembled: {0}")]
    Assemble(&'static str),
    /// The verifier refused the program, or may not be asked.
    #[error("load program {name}{}", said(log))]
    Load {
        /// The program's name.
        name: &'static str,
        /// The end of what the verifier said.
        log: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A map cannot be made, read or changed.
    #[error("{op} map {name}")]
    Map {
        /// What was tried.
        op: &'static str,
        /// The map's name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be hooked to the interface.
    #[error("attach program {name} to interface {interface}")]
    Attach {
        /// The program's name.
        name: &'static str,
        /// The interface's number.
        interface: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be hooked to the control group.
    #[error("attach program {name} to control group {}", group.display())]
    Group {
        /// The program's name.
        name: &'static str,
        /// The group's directory.
        group: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the interface is gone, which is no fault of the program.
    pub fn is_gone(&self) -> bool {
        let Self::Attach { source, .. } = self else {
            return false;
        };
        matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT))
    }
}

fn said(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(" (the verifier said: {log})")
    }
}
