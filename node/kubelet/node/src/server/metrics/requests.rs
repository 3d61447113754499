//! Requests of this API, counted (upstream: `pkg/kubelet/server/server.go`, `ServeHTTP`).

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use knode_kubelet_metrics::{Metrics, Request};

use super::super::route::Route;

/// A request that is being answered; dropped when it is, or given up.
pub(in super::super) struct Open {
    metrics: Arc<Metrics>,
    request: Request,
    since: Instant,
}

impl Open {
    /// A request has come.
    pub fn new(metrics: &Arc<Metrics>, method: &Method, route: &Route) -> Self {
        let request = labels(method, route);
        metrics.http.came(request);
        Self {
            metrics: metrics.clone(),
            request,
            since: Instant::now(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.http.answered(self.request, self.since.elapsed());
    }
}

/// Words of a fixed set only: a client must not be able to make up more of them.
fn labels(method: &Method, route: &Route) -> Request {
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let (path, long_running) = match route {
        Route::Healthz => ("healthz", false),
        Route::Pods => ("pods", false),
        Route::RunningPods => ("runningpods", false),
        Route::Configz => ("configz", false),
        Route::Statusz => ("statusz", false),
        Route::Flagz => ("flagz", false),
        Route::StatsSummary => ("stats", false),
        Route::Metrics => ("metrics", false),
        Route::ResourceMetrics => ("metrics/resource", false),
        Route::CadvisorMetrics => ("metrics/cadvisor", false),
        Route::ProbeMetrics => ("metrics/probes", false),
        Route::SystemLogs(_) => ("logs", false),
        Route::ContainerLogs(_) => ("containerLogs", false),
        Route::Run(_) => ("run", false),
        Route::Checkpoint(_) => ("checkpoint", false),
        Route::Exec(_) => ("exec", true),
        Route::Attach(_) => ("attach", true),
        Route::PortForward(_) => ("portForward", true),
        Route::Unknown => ("other", false),
    };
    Request {
        method,
        path,
        long_running,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::route::route;
    use super::*;

    #[test]
    fn a_request_is_open_until_it_is_answered() {
        let metrics = Arc::new(Metrics::new());
        let line = |name: &str, value: u32| {
            let labels =
                "{long_running=\"false\",method=\"GET\",path=\"containerLogs\",server_type=\"readwrite\"}";
            let (text, wanted) = (metrics.text(), format!("{name}{labels} {value}"));
            assert!(
                text.lines().any(|one| one == wanted),
                "{wanted} is not in\n{text}"
            );
        };
        let open = Open::new(&metrics, &Method::GET, &route("/containerLogs/a/b/c"));
        line("kubelet_http_inflight_requests", 1);
        drop(open);
        line("kubelet_http_inflight_requests", 0);
        line("kubelet_http_requests_total", 1);
        line("kubelet_http_requests_duration_seconds_count", 1);
    }

    #[test]
    fn clients_make_up_no_words() {
        let method = Method::from_bytes(b"BREW").expect("a method");
        let request = labels(&method, &route("/what/ever"));
        assert_eq!((request.method, request.path), ("other", "other"));
    }
}
