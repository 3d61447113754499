//! Whether somebody keeps the machine's clock.
#![allow(unsafe_code)]

use std::io;

/// Whether the kernel takes its clock for synchronised: a time service has told it so lately (`adjtimex(2)`).
///
/// # Errors
/// The kernel's.
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: a structure of integers, for which all zeros is a value: nothing is to be changed.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives during the call, and the kernel writes within it.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    match state {
        -1 => Err(io::Error::last_os_error()),
        state => Ok(state != libc::TIME_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        is_synchronised().unwrap();
    }
}
