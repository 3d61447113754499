//! The engine's entry points alone, for tests: there `/proc/self/exe` is the test's own program.

fn main() {
    let code = knode_engine::entry::dispatch(std::env::args_os().skip(1));
    std::process::exit(code.unwrap_or(2));
}
