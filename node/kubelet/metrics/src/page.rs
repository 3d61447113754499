//! Numbers that are read when somebody asks, in the text format.

use prometheus::core::Collector;
use prometheus::{Counter, Encoder, GaugeVec, Opts, Registry, TextEncoder};

use crate::families::alpha;

/// A page of values at this moment.
#[derive(Default)]
pub struct Page {
    text: Vec<u8>,
}

/// A value with the values of its family's labels.
pub type Value<'a> = (&'a [&'a str], f64);

impl Page {
    /// Adds a family of gauges with its values; nothing where there are none.
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = Value<'a>>,
    ) {
        // A name or label that is none is a family without values.
        let Ok(family) = GaugeVec::new(Opts::new(name, alpha(help)), labels) else {
            return;
        };
        for (labels, value) in values {
            family.with_label_values(labels).set(value);
        }
        self.write(family);
    }

    /// Adds one value.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, &[], [(&[][..], value)]);
    }

    /// Adds one value that only ever grows.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        // A name that is none is a family without values.
        let Ok(family) = Counter::new(name, alpha(help)) else {
            return;
        };
        family.inc_by(value);
        self.write(family);
    }

    /// Writes a family, its values in order; one without values is left out.
    fn write(&mut self, family: impl Collector + 'static) {
        let registry = Registry::new();
        // It is the first one of its registry, and writing to memory cannot fail.
        let _ = registry.register(Box::new(family));
        let _ = TextEncoder::new().encode(&registry.gather(), &mut self.text);
    }

    /// The page.
    pub fn text(self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_labels() {
        let mut page = Page::default();
        page.gauge("a", "One.", 1.5);
        page.gauges("b", "Two.", &["x"], [(&["m\"n"][..], 2.0)]);
        page.gauges("c", "None.", &["x"], []);
        let lines = "# HELP a [ALPHA] One.\n# TYPE a gauge\na 1.5\n\
                     # HELP b [ALPHA] Two.\n# TYPE b gauge\nb{x=\"m\\\"n\"} 2\n";
        assert_eq!(page.text(), lines);
    }
}
