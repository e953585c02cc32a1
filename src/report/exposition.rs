//! Metrics as Prometheus reads them: version 0.0.4 of its text format.

use std::fmt::{Display, Write as _};

use crate::report::Histogram;

/// What a metric counts like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

/// A page of metrics that is being written, family by family.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a family with its samples: labels and value of each. One without samples is left out.
    pub fn family<'l, V: Display>(
        &mut self,
        name: &str,
        kind: MetricKind,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, V)>,
    ) {
        let kind = match kind {
            MetricKind::Gauge => "gauge",
            MetricKind::Counter => "counter",
        };
        let mut head = head(name, kind, help);
        for (labels, value) in samples {
            self.text.push_str(&std::mem::take(&mut head));
            self.text.push_str(name);
            for (number, (label, text)) in labels.iter().enumerate() {
                let before = if number == 0 { '{' } else { ',' };
                let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(self.text, "{before}{label}=\"{text}\"");
            }
            let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }

    /// Adds a family of durations: how many were not longer than each bound, the seconds of all together, and their number.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.text.push_str(&head(name, "histogram", help));
        for (bound, count) in histogram.buckets() {
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (sum, count) = (histogram.sum(), histogram.count());
        let _ = write!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
    }

    /// Returns the page.
    #[must_use]
    pub fn text(self) -> String {
        self.text
    }
}

fn head(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {}\n# TYPE {name} {kind}\n", help.replace('\\', "\\\\").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_carry_help_and_type_and_labels_are_quoted() {
        let mut page = Exposition::default();
        page.family("up", MetricKind::Gauge, "Whether it is up.", [(vec![], 1)]);
        page.family("none", MetricKind::Gauge, "Nothing.", Vec::<(Vec<(&str, &str)>, i64)>::new());
        let odd = vec![("group", "a\"b\\c\nd"), ("topic", "t")];
        page.family("lag_seconds", MetricKind::Counter, "How\nlong.", [(odd, 1.5), (vec![("group", "x")], 0.0)]);
        assert_eq!(
            page.text(),
            "# HELP up Whether it is up.\n# TYPE up gauge\nup 1\n\
             # HELP lag_seconds How\\nlong.\n# TYPE lag_seconds counter\n\
             lag_seconds{group=\"a\\\"b\\\\c\\nd\",topic=\"t\"} 1.5\nlag_seconds{group=\"x\"} 0\n"
        );
    }
}
