//! The creator's end of the status pipe.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::args::escape;

/// Writes lines that `shim::launch` reads. Clones share the pipe, also across the fork into the container.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pipe: Rc<File>,
}

impl Report {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe: Rc::new(File::from(pipe)),
        }
    }

    pub(super) fn started(&self, pid: i32) {
        self.line(&format!("pid {pid}"));
    }

    pub(super) fn failed(&self, message: &str) {
        self.line(&format!("error {}", escape(message)));
    }

    pub(super) fn oom_score_refused(&self) {
        self.line("oom-score-refused");
    }

    /// One write, so that lines of two processes do not mix.
    fn line(&self, text: &str) {
        // Without a reader the shim is gone, and nobody is left to tell.
        let _ = (&*self.pipe).write_all(format!("{text}\n").as_bytes());
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The error of an operating system call as C and Go print it: without Rust's `(os error N)`.
pub(super) fn os_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::Error::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_errors_read_as_upstream() {
        assert_eq!(
            os_text(&io::Error::from_raw_os_error(2)),
            "no such file or directory"
        );
        assert_eq!(os_text(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(os_text(&io::Error::from_raw_os_error(8)), "exec format error");
    }
}
