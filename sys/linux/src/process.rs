//! Processes that go on with this program rather than executing one.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Exit code of a copy that panicked, as Rust programs have it.
const PANICKED: i32 = 101;

/// Opens the file of `program` where it cannot be written to, whoever tries: on a read-only mount of that file alone,
/// which is mounted nowhere and cannot be mounted any more. What is executed by `/proc/self/fd/<number>` of it has this
/// as its `/proc/<pid>/exe`. A container that comes to that link of a process on its way into it (CVE-2019-5736) can
/// open it and wait until the program runs no more, but not write.
///
/// # Errors
/// Those of `open_tree(2)`, `mount_setattr(2)` (since Linux 5.12) and `open(2)`.
pub fn sealed(program: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags};
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, program, flags)?;
    make_read_only(&mount)?;
    // With the mount's own descriptor goes its place in a namespace, and with that all ways to change or to mount it.
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn make_read_only(mount: &OwnedFd) -> io::Result<()> {
    /// `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        users: u64,
    }
    const READ_ONLY: u64 = 1;
    let attributes = Attributes {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        users: 0,
    };
    // SAFETY: the path is a string that ends, and the attributes live through the call with the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `child` in a copy of this process, which ends with the code that it returns; gives the copy's number. What is
/// registered for the end of a process does not run in it.
///
/// The calling process must have one thread: locks that another holds stay held in the copy for ever.
///
/// # Errors
/// Those of `fork(2)`.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the process has one thread, so the copy is whole; it leaves this function by ending only.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => run(child),
        pid => Ok(pid),
    }
}

/// As [`fork`], but the copy becomes a child of this process's parent, and a member of the PID namespace that this
/// process has joined for its children.
///
/// # Errors
/// Those of `clone(2)`.
pub fn fork_sibling(child: impl FnOnce() -> i32) -> io::Result<i32> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without a stack or memory to share, clone is fork with another parent; the rest as there.
    match unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        0 => run(child),
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}

fn run(child: impl FnOnce() -> i32) -> ! {
    // A panic must not go on into the work of the original.
    let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
    // SAFETY: ends the process and touches none of its memory.
    unsafe { libc::_exit(code) }
}

/// Makes `streams` the standard input, output and error of a copy that [`fork`] has made, and closes all other
/// descriptors but `kept`, which comes back under another number. Whatever else the copy has of the original's
/// objects must not be used, nor dropped, any more.
///
/// # Errors
/// Those of `dup3(2)` and `close_range(2)`.
pub fn keep_only(streams: [&OwnedFd; 3], kept: &OwnedFd) -> io::Result<OwnedFd> {
    const KEPT: RawFd = 3;
    // Out of the way of the numbers that are given below.
    let first = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), KEPT + 1);
    let kept = first(kept)?;
    let streams = [first(streams[0])?, first(streams[1])?, first(streams[2])?];
    for (number, stream) in (0..).zip(&streams) {
        duplicate(stream, number, 0)?;
    }
    duplicate(&kept, KEPT, libc::O_CLOEXEC)?;
    // Their numbers are closed with all others.
    std::mem::forget((kept, streams));
    close_from(KEPT + 1)?;
    // SAFETY: it was made above, and what had the number before is not used any more.
    Ok(unsafe { OwnedFd::from_raw_fd(KEPT) })
}

fn duplicate(fd: &OwnedFd, number: RawFd, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers; by the contract of the caller nothing that had `number` is used any more.
    match unsafe { libc::dup3(fd.as_raw_fd(), number, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers; by the contract of the caller nothing that has them is used any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, 0) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    // Before Linux 5.9 they are closed one by one; that of the list itself is among them, and closed by then.
    let open = std::fs::read_dir("/proc/self/fd")?.flatten();
    let numbers: Vec<RawFd> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number >= first) {
        // SAFETY: as above. One that is not open is no harm.
        unsafe { libc::close(number) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::process::Command;

    /// The test's own process has threads: what is to be tested runs in one that has none.
    fn alone(name: &str) -> bool {
        const MARK: &str = "KNODE_TEST_ALONE";
        if std::env::var_os(MARK).is_some() {
            return true;
        }
        let mut command = Command::new("/proc/self/exe");
        let name = format!("process::tests::{name}");
        let output = command
            .args(["--exact", &name, "--test-threads=1"])
            .env(MARK, "1")
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        false
    }

    #[test]
    fn a_copy_ends_with_its_code_also_after_a_panic() {
        if !alone("a_copy_ends_with_its_code_also_after_a_panic") {
            return;
        }
        let ended = |pid| waitpid(Pid::from_raw(pid), None).unwrap();
        let seven = fork(|| 7).unwrap();
        assert_eq!(ended(seven), WaitStatus::Exited(Pid::from_raw(seven), 7));
        let panicked = fork(|| panic!("on purpose")).unwrap();
        assert_eq!(ended(panicked), WaitStatus::Exited(Pid::from_raw(panicked), 101));
    }

    /// Needs root.
    #[test]
    fn what_is_sealed_cannot_be_written_to_after_its_end_either() {
        let program = std::env::temp_dir().join(format!("knode-linux-sealed-{}", std::process::id()));
        std::fs::copy("/bin/sleep", &program).unwrap();
        let sealed = sealed(&program).expect("mounting needs root");
        let by_number = format!("/proc/self/fd/{}", sealed.as_raw_fd());
        let mut child = Command::new(by_number).arg("1000").spawn().unwrap();
        let running = format!("/proc/{}/exe", child.id());
        // As somebody who found the link while the program ran.
        let kept = File::open(&running).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let again = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let refused = |error: io::Error| error.raw_os_error();
        let written = File::options().write(true).open(&again).map_err(refused);
        assert_eq!(written.err(), Some(Some(libc::EROFS)));
        let place = std::env::temp_dir().join(format!("knode-linux-unsealed-{}", std::process::id()));
        File::create(&place).unwrap();
        let mounted = rustix::mount::mount_bind(again.as_str(), &place);
        assert_eq!(mounted, Err(rustix::io::Errno::INVAL));
        assert!(
            make_read_only(&OwnedFd::from(kept)).is_err(),
            "the mount can be changed"
        );
        // It is the way that is barred, not the file.
        File::options().write(true).open(&program).unwrap();
        std::fs::remove_file(&place).unwrap();
        std::fs::remove_file(&program).unwrap();
    }

    #[test]
    fn a_sibling_is_the_parents() {
        if !alone("a_sibling_is_the_parents") {
            return;
        }
        let (mut told, teller) = io::pipe().unwrap();
        let between = fork(|| {
            let sibling = fork_sibling(|| 5).unwrap();
            (&teller).write_all(&sibling.to_le_bytes()).unwrap();
            0
        });
        let mut number = [0; 4];
        told.read_exact(&mut number).unwrap();
        let sibling = Pid::from_raw(i32::from_le_bytes(number));
        assert_eq!(waitpid(sibling, None).unwrap(), WaitStatus::Exited(sibling, 5));
        waitpid(Pid::from_raw(between.unwrap()), None).unwrap();
    }

    #[test]
    fn nothing_is_open_but_what_was_named() {
        if !alone("nothing_is_open_but_what_was_named") {
            return;
        }
        let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        let (mut told, teller) = io::pipe().unwrap();
        let teller = OwnedFd::from(teller);
        let child = fork(|| {
            let kept = keep_only([&null, &teller, &null], &teller).unwrap();
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
            let (number, text) = (kept.as_raw_fd(), format!("{open} open\n"));
            nix::unistd::write(&kept, text.as_bytes()).unwrap();
            number - 3
        });
        drop(teller);
        let mut said = String::new();
        told.read_to_string(&mut said).unwrap();
        // Three streams, the one that is kept, and the directory that is read.
        assert_eq!(said, "5 open\n");
        let child = Pid::from_raw(child.unwrap());
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    }
}
