//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use crate::report::histogram::Histogram;
use crate::terminal::escape_controls_text;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Gauge,
    Counter,
}

/// A page of metrics, written family by family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a family with its samples (labels and value). A family without samples is left out.
    pub(crate) fn family<'l, V: Display>(
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
        let mut head = family_header(name, kind, help);
        for (labels, value) in samples {
            self.text.push_str(&std::mem::take(&mut head));
            self.text.push_str(name);
            for (number, (label, text)) in labels.iter().enumerate() {
                let before = if number == 0 { '{' } else { ',' };
                // A page can be read on a terminal.
                let text = escape_controls_text(*text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(self.text, "{before}{label}=\"{text}\"");
            }
            let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }

    /// Adds a histogram of durations.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.text.push_str(&family_header(name, "histogram", help));
        for (bound, count) in histogram.buckets() {
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (sum, count) = (histogram.sum(), histogram.count());
        let _ = write!(self.text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
    }

    #[must_use]
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

fn family_header(name: &str, kind: &str, help: &str) -> String {
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
        page.family("lag_seconds", MetricKind::Counter, "How\nlong.", [(odd, 1.5), (vec![("group", "x\x1b[2J")], 0.0)]);
        assert_eq!(
            page.into_text(),
            "# HELP up Whether it is up.\n# TYPE up gauge\nup 1\n\
             # HELP lag_seconds How\\nlong.\n# TYPE lag_seconds counter\n\
             lag_seconds{group=\"a\\\"b\\\\c\\nd\",topic=\"t\"} 1.5\nlag_seconds{group=\"x\\\\x1b[2J\"} 0\n"
        );
    }
}
