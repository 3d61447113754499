//! Health checks, each by itself or all together.

use http::{Response, StatusCode};

use crate::core::Core;
use crate::http::{Body, Query, not_found_page, plain};

const TEXT: &str = "text/plain; charset=utf-8";

/// A check's name and whether it passes.
type Check = (&'static str, fn(&Core) -> bool);

const CHECKS: [Check; 5] = [
    ("ping", |_| true),
    ("log", |_| true),
    ("etcd", |core| !*core.closing.borrow()),
    ("informer-sync", |core| {
        core.cache.progress() + 1024 >= core.store.revision()
    }),
    ("shutdown", |core| !*core.closing.borrow()),
];

/// `/healthz`, `/livez`, `/readyz`, and single checks below them.
pub(crate) fn answer(core: &Core, parts: &[&str], query: &Query) -> Response<Body> {
    match parts {
        [page] => all(core, page, query),
        [_, name] => match CHECKS.iter().find(|(check, _)| check == name) {
            Some((_, passes)) if passes(core) => plain(StatusCode::OK, TEXT, "ok"),
            Some(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "internal server error: check failed\n",
            ),
            None => not_found_page(),
        },
        _ => not_found_page(),
    }
}

fn all(core: &Core, page: &str, query: &Query) -> Response<Body> {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut healthy = true;
    // A server that ends is alive until it has ended.
    let checks = CHECKS
        .iter()
        .filter(|(name, _)| *name != "shutdown" || page == "readyz");
    for (name, passes) in checks {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if passes(core) {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            healthy = false;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    match (healthy, query.get("verbose").is_some()) {
        (true, false) => plain(StatusCode::OK, TEXT, "ok"),
        (true, true) => plain(StatusCode::OK, TEXT, format!("{lines}{page} check passed\n")),
        (false, _) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            format!("{lines}{page} check failed\n"),
        ),
    }
}
