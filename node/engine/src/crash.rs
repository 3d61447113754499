//! Named places at which a test can make a process of the engine die, as `kill -9` would. Builds without debug
//! assertions have none.

/// Environment variable with the path of a file; a process that comes to the place named in it removes the file
/// and dies.
pub const VARIABLE: &str = "KNODE_TEST_CRASH_FILE";

/// Places in the daemon, by operation, in their order.
pub const DAEMON: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "run.begin",
            "run.files",
            "run.record",
            "run.shim",
            "run.namespaces",
            "run.connected",
            "run.network",
            "run.recorded",
        ],
    ),
    (
        "create",
        &[
            "create.begin",
            "create.namespaces",
            "create.record",
            "create.prepared",
            "create.mounted",
            "create.specified",
            "create.recorded",
        ],
    ),
    ("start", &["start.begin", "start.answered", "start.recorded"]),
    (
        "exec",
        &[
            "exec.begin",
            "exec.written",
            "exec.answered",
            "exec.forgotten",
            "exec.over",
        ],
    ),
    ("stream", &["exec.begin", "exec.answered", "exec.forgotten"]),
    (
        "stop",
        &[
            "stop.asked",
            "stop.signalled",
            "end.told",
            "end.recorded",
            "end.unmounted",
        ],
    ),
    (
        "remove",
        &[
            "remove.killed",
            "remove.snapshots",
            "remove.cgroup",
            "remove.directory",
        ],
    ),
    (
        "stop-sandbox",
        &[
            "stop-sandbox.killed",
            "release.network",
            "release.shim",
            "release.namespaces",
            "release.files",
            "stop-sandbox.recorded",
        ],
    ),
    (
        "remove-sandbox",
        &[
            "remove-sandbox.stopped",
            "remove-sandbox.containers",
            "remove-sandbox.files",
        ],
    ),
];

/// Places in the shim and in what it or the daemon makes to do a part of the work, by operation.
pub const BELOW: &[(&str, &[&str])] = &[
    ("run", &["shim.begin", "shim.ready", "shim.met"]),
    ("run-users", &["users.begin", "users.mapped"]),
    (
        "create-shared",
        &[
            "shim.namespace-asked",
            "pod.begin",
            "pod.unshared",
            "pod.forked",
            "pod.first",
            "pod.waiting",
            "shim.namespace-made",
        ],
    ),
    (
        "start",
        &[
            "shim.asked",
            "shim.spawned",
            "shim.decided",
            "shim.adopted",
            "creator.begin",
            "creator.built",
            "creator.started",
        ],
    ),
    ("exec", EXEC),
    ("stream", EXEC),
    (
        "stop",
        &["shim.signalled", "shim.ended", "shim.recorded", "shim.told"],
    ),
    ("stop-sandbox", &["shim.shutdown"]),
];

/// Those of a command, whether it is run to its end or on a terminal.
const EXEC: &[&str] = &[
    "shim.exec-asked",
    "shim.exec-spawned",
    "creator.begin",
    "enter.begin",
    "enter.there",
    "enter.inside",
    "enter.made",
    "shim.decided",
    "shim.adopted",
    "shim.exec-ended",
    "shim.exec-told",
];

/// Dies if a test wants this place.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    if std::fs::read_to_string(&path).is_ok_and(|wanted| wanted.trim() == name)
        && std::fs::remove_file(&path).is_ok()
    {
        // There is nothing to do when a process cannot kill itself: the test will say that it lives.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        // The first process of a PID namespace is spared by signals of its own, not by this.
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}

/// Hands the wish of a test on to a process with an empty environment.
pub(crate) fn inherit(command: &mut std::process::Command) {
    if cfg!(debug_assertions)
        && let Some(path) = std::env::var_os(VARIABLE)
    {
        command.env(VARIABLE, path);
    }
}
