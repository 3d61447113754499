//! A thousand to thirty thousand Services with three endpoints each, and one with five thousand: what it costs to
//! load them, to change one, to hold them, and what a connection's first packet pays; beside the mode iptables and
//! `nft -f` of a ruleset as upstream lays it out. Every size has a network namespace of its own without a way out.
//!
//! `cargo bench -p knode-proxy` measures all; `-- --sizes 1000 --large 0 --seconds 2` is brief.
//! Closes with a table in Markdown.

mod api;
mod objects;
mod options;
mod packets;
mod planner;
mod process;
mod report;
mod upstream;

use std::process::ExitCode;

use objects::Cluster;
use options::{Options, Role};
use report::Report;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(Role::Measure(options)) => options,
        Ok(Role::Proxy(server, mode)) => return process::serve(server, &mode),
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    for cluster in options.clusters() {
        report = alone(cluster, options.clone(), report);
    }
    print!("\n{}", report.markdown());
    ExitCode::SUCCESS
}

/// Measures one cluster on a thread with a fresh network namespace.
fn alone(cluster: Cluster, options: Options, mut report: Report) -> Report {
    let thread = std::thread::spawn(move || {
        report.column(&cluster.to_string());
        in_fresh_namespace(|| planner::measure(&cluster, &mut report));
        in_fresh_namespace(|| process::measure(&cluster, &options, &mut report));
        if Options::allows(options.iptables_max, &cluster) {
            in_fresh_namespace(|| process::measure_iptables(&cluster, &mut report));
        }
        if Options::allows(options.nft_max, &cluster) {
            in_fresh_namespace(|| upstream::measure(&cluster, &mut report));
        }
        report
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn in_fresh_namespace(work: impl FnOnce()) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this benchmark needs root");
    packets::make_network();
    work();
}
