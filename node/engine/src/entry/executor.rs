//! The last steps inside a new container: finding the program and executing it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::report::{Report, os_text};
use crate::error::chain;

/// Takes the label of the next program that this thread executes.
const NEXT_LABEL: &str = "/proc/thread-self/attr/exec";

/// Executes the process of a specification and says why when it cannot.
#[derive(Clone)]
pub(super) struct ProgramExecutor {
    pub(super) report: Report,
    /// It is a command with a time limit: what it starts stays below it.
    pub(super) keeps_orphans: bool,
    /// The filter for a command in a running container, which libcontainer does not load.
    pub(super) seccomp: Option<Box<LinuxSeccomp>>,
}

impl Executor for ProgramExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let ready = find_program(spec).and_then(|_| label_next(spec));
        ready.map_err(|message| {
            self.report.failed(&message);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let fail = |message: String| {
            self.report.failed(&message);
            ExecutorError::Other(message)
        };
        let program = find_program(spec).map_err(fail)?;
        if let Some(seccomp) = &self.seccomp {
            libcontainer::seccomp::initialize_seccomp(seccomp)
                .map_err(|error| fail(format!("loading the seccomp filter: {}", chain(&error))))?;
        }
        if self.keeps_orphans {
            // So whoever kills it finds all that it has started. A kernel that refuses finds the direct ones.
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        }
        let words = arguments(spec);
        let no_nul = |_| fail(format!("exec: {:?}: invalid argument", words[0]));
        let path = CString::new(program.as_os_str().as_encoded_bytes()).map_err(no_nul)?;
        let argv: Vec<CString> = words
            .iter()
            .map(|word| CString::new(word.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(no_nul)?;
        let Err(error) = nix::unistd::execv(&path, &argv);
        Err(fail(format!(
            "exec {}: {}",
            program.display(),
            os_text(&io::Error::from(error))
        )))
    }
}

/// Has the program run with the SELinux label of the specification, if there is one.
fn label_next(spec: &Spec) -> Result<(), String> {
    let process = spec.process().as_ref();
    let Some(label) = process.and_then(|process| process.selinux_label().as_deref()) else {
        return Ok(());
    };
    let failed = |error: io::Error| format!("SELinux label {label:?}: {}", os_text(&error));
    let mut file = File::options().write(true).open(NEXT_LABEL).map_err(failed)?;
    let kind = rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?;
    if kind.f_type != libc::PROC_SUPER_MAGIC {
        return Err(format!(
            "SELinux label {label:?}: the container's /proc is not the kernel's"
        ));
    }
    file.write_all(label.as_bytes()).map_err(failed)
}

fn arguments(spec: &Spec) -> &[String] {
    spec.process()
        .as_ref()
        .and_then(|process| process.args().as_deref())
        .unwrap_or_default()
}

/// Finds the program as a shell would, in the container's own PATH; the texts are those of upstream.
fn find_program(spec: &Spec) -> Result<PathBuf, String> {
    let name = arguments(spec)
        .first()
        .filter(|name| !name.is_empty())
        .ok_or("exec: no command given")?;
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: {}", os_text(&error)))
            }
            Err(error) => Err(format!("exec: {name:?}: {}", os_text(&error))),
        };
    }
    let process = spec.process().as_ref();
    let environment = process
        .and_then(|process| process.env().as_deref())
        .unwrap_or_default();
    let path = environment
        .iter()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    let directories = path
        .split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory });
    let mut candidates = directories.map(|directory| Path::new(directory).join(name));
    candidates
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

/// Like `exec.LookPath` upstream: any execute bit will do, the kernel has the last word.
fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{ProcessBuilder, SpecBuilder};

    fn spec(args: &[&str], path: &str) -> Spec {
        let process = ProcessBuilder::default()
            .args(args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
            .env(vec![format!("PATH={path}")])
            .build()
            .unwrap();
        SpecBuilder::default().process(process).build().unwrap()
    }

    #[test]
    fn texts_are_those_people_search_for() {
        let missing = find_program(&spec(&["nope"], "/usr/bin:/bin")).unwrap_err();
        assert_eq!(missing, "exec: \"nope\": executable file not found in $PATH");
        let absolute = find_program(&spec(&["/no/such/program"], "")).unwrap_err();
        assert_eq!(
            absolute,
            "exec: \"/no/such/program\": stat /no/such/program: no such file or directory"
        );
        let file = find_program(&spec(&["/etc/passwd"], "")).unwrap_err();
        assert_eq!(file, "exec: \"/etc/passwd\": permission denied");
        let directory = find_program(&spec(&["/etc"], "")).unwrap_err();
        assert_eq!(directory, "exec: \"/etc\": is a directory");
    }

    #[test]
    fn the_path_of_the_container_counts() {
        assert_eq!(
            find_program(&spec(&["sh"], "/nowhere:/bin")).unwrap(),
            Path::new("/bin/sh")
        );
    }
}
