use super::parse;
use super::*;

#[test]
fn kernel_files_are_read() {
    assert_eq!(parse::cpu_list("0-3,6\n"), 5);
    assert_eq!(parse::cpu_list("0\n"), 1);
    assert_eq!(
        parse::meminfo("MemTotal:  100 kB\nMemFree: 1 kB\n", "MemTotal"),
        Some(102_400)
    );
    assert_eq!(parse::meminfo("MemTotal:  100 kB\n", "MemAvailable"), None);
    assert_eq!(parse::tasks("0.10 0.20 0.30 2/345 6789\n"), 345);
    assert_eq!(
        parse::os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        "Debian GNU/Linux 12 (bookworm)"
    );
    assert_eq!(parse::os_name(""), "Linux");
    assert_eq!(parse::huge_page_size("hugepages-2048kB"), Some(2 << 20));
    assert_eq!(parse::huge_page_size("x"), None);
}

#[test]
fn this_machine_has_processors_memory_and_a_disk() {
    let machine = MachineInfo::read(Path::new("/")).unwrap();
    assert!(
        machine.cpus > 0 && machine.memory > 1 << 20 && machine.ephemeral_storage > 1 << 20,
        "{machine:?}"
    );
    assert!(
        !machine.boot_id.is_empty() && !machine.kernel.is_empty(),
        "{machine:?}"
    );
    assert!(available_memory().unwrap() <= machine.memory);
    let (tasks, max) = processes().unwrap();
    assert!(tasks > 0 && tasks < max, "{tasks} of {max}");
}
