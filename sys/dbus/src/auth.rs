//! What both sides say before the first message (EXTERNAL: the kernel confirms who one is).

use crate::DbusError;

/// Asks to be taken as this process's user.
pub(crate) fn claim() -> String {
    let user = rustix::process::geteuid().as_raw().to_string();
    let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("\0AUTH EXTERNAL {user}\r\n")
}

/// How the other side agrees to [`claim`].
pub(crate) const ACCEPTED: &str = "OK ";
/// Asks whether descriptors may travel with messages.
pub(crate) const NEGOTIATE_FDS: &str = "NEGOTIATE_UNIX_FD\r\n";
/// How the other side agrees to that.
pub(crate) const FDS_AGREED: &str = "AGREE_UNIX_FD";
/// Messages follow.
pub(crate) const BEGIN: &str = "BEGIN\r\n";

/// Refuses any line but the expected one.
pub(crate) fn expect(line: &str, expected: &str) -> Result<(), DbusError> {
    if line.starts_with(expected) {
        Ok(())
    } else {
        Err(DbusError::Refused(line.trim().to_owned()))
    }
}
