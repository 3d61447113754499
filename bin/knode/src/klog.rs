//! Log lines as Kubernetes' and flannel's programs write them: `I0424 14:37:32.022092   18817 main:132] message`.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The format.
pub struct Klog;

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let place = meta.target().rsplit("::").next().unwrap_or_default();
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let mut said = Said::default();
        event.record(&mut said);
        let head = head(*meta.level(), &now, std::process::id());
        writeln!(
            writer,
            "{head} {place}:{}] {}{}",
            meta.line().unwrap_or(0),
            said.message,
            said.fields
        )
    }
}

fn head(level: Level, now: &jiff::Zoned, process: u32) -> String {
    let letter = match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO | Level::DEBUG | Level::TRACE => 'I',
    };
    format!("{letter}{} {process:>7}", now.strftime("%m%d %H:%M:%S%.6f"))
}

/// An event's message and its other fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Said {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push_str(&format!(" {}={value}", field.name()));
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format!("{:?}", knode_client::brief(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_klogs() {
        let now: jiff::Timestamp = "2018-04-24T14:37:32.022092Z".parse().unwrap();
        let now = now.to_zoned(jiff::tz::TimeZone::UTC);
        assert_eq!(head(Level::INFO, &now, 18817), "I0424 14:37:32.022092   18817");
        assert_eq!(head(Level::ERROR, &now, 1), "E0424 14:37:32.022092       1");
    }
}
