//! The calling process's own memory.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Gives back all that a process of one thread does not need while it waits: what [`trim`], [`release_stack`] and
/// [`release_program`] give. Best called right before the wait, since whatever runs afterwards brings its pages back,
/// sixteen at a time.
///
/// # Errors
/// When the process's own mappings cannot be read, and those of `madvise(2)`.
pub fn rest() -> io::Result<()> {
    let ranges = of_files()?;
    release_stack()?;
    trim();
    release(&ranges)
}

/// Gives unused memory of the allocator back to the kernel.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives back what the stack of the process's first thread has once grown to, below the caller. Other threads are left
/// alone.
///
/// # Errors
/// When the process's own mappings cannot be read, and those of `madvise(2)`.
pub fn release_stack() -> io::Result<()> {
    /// What this function and those that it calls may need, in bytes.
    const NEEDED: usize = 16 * 1024;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let Some((start, length)) = maps
        .lines()
        .find(|line| line.ends_with("[stack]"))
        .and_then(range)
    else {
        return Ok(());
    };
    let here = 0u8;
    let here = std::ptr::from_ref(&here).addr();
    let end = here.saturating_sub(NEEDED) & !(rustix::param::page_size() - 1);
    if here >= start + length || end <= start {
        return Ok(());
    }
    // SAFETY: the pages are of the stack that this function runs on, and lie below the frames of all that run on it, so
    // nothing in them is alive.
    unsafe { give_back(start, end - start) }
}

/// Gives back the pages of the program and its libraries that this process has mapped, code and constants. They are
/// clean copies of files: what is still needed comes back by itself, out of the kernel's cache, what only the start
/// needed does not.
///
/// # Errors
/// When the process's own mappings cannot be read, and those of `madvise(2)`.
pub fn release_program() -> io::Result<()> {
    release(&of_files()?)
}

/// Start and length of everything in memory that is as in its file, and stays so.
fn of_files() -> io::Result<Vec<(usize, usize)>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let pages = File::open("/proc/self/pagemap")?;
    let mut ranges = Vec::new();
    for (start, length) in maps.lines().filter_map(of_a_file) {
        add_clean(&pages, start, length, &mut ranges)?;
    }
    Ok(ranges)
}

/// Gives back what [`of_files`] has found. Nothing but system calls: the pages of whatever runs here come back.
fn release(ranges: &[(usize, usize)]) -> io::Result<()> {
    ranges.iter().try_for_each(|(start, length)| {
        // SAFETY: the pages are of private mappings that cannot be written to, and none is the process's own (the
        // linker's work, say): each is in the file as it is here, and comes back from there.
        unsafe { give_back(*start, *length) }
    })
}

/// Adds what is as in its file of a mapping that cannot be written to.
fn add_clean(pages: &File, start: usize, length: usize, ranges: &mut Vec<(usize, usize)>) -> io::Result<()> {
    /// Pages looked at in one go.
    const CHUNK: usize = 512;
    let size = rustix::param::page_size();
    let mut entries = [0; CHUNK * 8];
    for first in (0..length / size).step_by(CHUNK) {
        let count = CHUNK.min(length / size - first);
        let entries = &mut entries[..count * 8];
        let at = (start / size + first) * 8;
        pages.read_exact_at(entries, u64::try_from(at).map_err(io::Error::other)?)?;
        let runs = clean(entries).into_iter();
        ranges.extend(runs.map(|run| (start + (first + run.start) * size, run.len() * size)));
    }
    Ok(())
}

/// # Safety
/// Nothing in the range may be needed as it is: it becomes what its file has, or zeros.
unsafe fn give_back(start: usize, length: usize) -> io::Result<()> {
    // SAFETY: by contract.
    match unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs of pages that are not the process's own, in entries of `/proc/<pid>/pagemap`.
fn clean(entries: &[u8]) -> Vec<Range<usize>> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, entry) in entries
        .as_chunks()
        .0
        .iter()
        .map(|entry| u64::from_ne_bytes(*entry))
        .enumerate()
    {
        if entry & SWAPPED != 0 || entry & (PRESENT | OF_FILE) == PRESENT {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// The range of a mapping of a file that cannot be written to, out of its line in `/proc/<pid>/maps`.
fn of_a_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (access, path) = (words.next()?, words.nth(3)?);
    let clean = !access.contains('w') && access.ends_with('p') && path.starts_with('/');
    range(line).filter(|_| clean)
}

/// Start and length in a line that begins a mapping.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    Some((start, end.checked_sub(start)?))
}

/// Has all threads share `count` heaps. Each of the C library's own choice, eight a processor, keeps what it has once
/// needed. Call it before there are threads.
pub fn share_heaps(count: u8) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers, and has no other thread beside it by contract.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, count.into());
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_of_files_is_given_back() {
        let taken =
            |access, file| of_a_file(&format!("55d0c000-55d0f000 {access} 00002000 fe:00 1234 {file}"));
        assert_eq!(taken("r-xp", "/bin/knode"), Some((0x55d0_c000, 0x3000)));
        assert_eq!(taken("r--p", "/lib/libc.so.6"), Some((0x55d0_c000, 0x3000)));
        assert_eq!(taken("rw-p", "/bin/knode"), None);
        assert_eq!(taken("r--s", "/bin/knode"), None);
        assert_eq!(taken("r-xp", "[vdso]"), None);
        assert_eq!(taken("r--p", ""), None);
    }

    #[test]
    fn pages_of_the_process_itself_are_kept() {
        let (absent, own, swapped, of_file) = (0u64, 1 << 63, 1 << 62, 5 << 61);
        let entries = [of_file, absent, own, of_file, swapped, own];
        let bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(clean(&bytes), [0..2, 3..4]);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        release_program().unwrap();
        release_stack().unwrap();
        rest().unwrap();
        assert_eq!("still here".replace("still ", ""), "here");
    }
}
