//! The calling process's own memory.
#![allow(unsafe_code)]

use std::path::Path;
use std::{fs, io};

/// Gives unused memory of the allocator back to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives back the pages of the program itself that are in memory, code and constants. They are clean copies of its file:
/// what is still needed comes back by itself, what only the start needed does not.
///
/// # Errors
/// When the process's own mappings cannot be read. A kernel that keeps the pages (before 5.4) is no error.
pub fn release_program() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for (start, length) in maps.lines().filter_map(|line| clean(line, &program)) {
        // SAFETY: the range is a mapping of ours, and MADV_PAGEOUT changes no content: pages that were not written come
        // back from the file, others are kept.
        let done = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_PAGEOUT) };
        if done != 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Start and length of a mapping of the program's file that cannot be written to.
fn clean(line: &str, program: &Path) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, access) = (words.next()?, words.next()?);
    if access.contains('w') || Path::new(words.nth(3)?) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let start = number(start)?;
    Some((start, number(end)?.checked_sub(start)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_of_the_program_is_given_back() {
        let program = Path::new("/bin/knode");
        let line = |access, file| format!("55d0c000-55d0f000 {access} 00002000 fe:00 1234 {file}");
        let taken = |line: String| clean(&line, program);
        assert_eq!(taken(line("r-xp", "/bin/knode")), Some((0x55d0_c000, 0x3000)));
        assert_eq!(taken(line("rw-p", "/bin/knode")), None);
        assert_eq!(taken(line("r-xp", "/lib/libc.so.6")), None);
        assert_eq!(taken("7f00-7f10 rw-p 00000000 00:00 0".into()), None);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        release_program().unwrap();
        assert_eq!("still here".replace("still ", ""), "here");
    }
}
