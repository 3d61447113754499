//! Terminals.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// Sets the size of a terminal; its foreground processes get SIGWINCH.
///
/// # Errors
/// `ENOTTY` when `terminal` is none.
pub fn resize(terminal: &impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Columns and rows of a terminal.
///
/// # Errors
/// `ENOTTY` when `terminal` is none.
pub fn size(terminal: &impl AsFd) -> io::Result<(u16, u16)> {
    let size = tcgetwinsize(terminal)?;
    Ok((size.ws_col, size.ws_row))
}
