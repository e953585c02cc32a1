//! What can be seen of windows while they are counted: metrics of the last one that was closed, and a table for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::report::{Exposition, ExtraMetrics, MetricKind, grouped};
use crate::terminal::escape_controls;
use crate::windows::counts::OTHER;
use crate::windows::output::TOTAL;
use crate::windows::tumbling::Window;

/// The most values of a field that metrics tell by name: a monitoring system keeps a series for each that it has ever seen.
const SERIES: usize = 200;
/// What the page tells by itself: the label of each series, and what else ends in `_count`.
const TAKEN: [&str; 6] = [
    "topic",
    "total",
    "consume_duration_seconds",
    "transform_duration_seconds",
    "response_duration_seconds",
    "batch_processing_duration_seconds",
];
/// The most values of a field that the table shows.
const ROWS: usize = 8;

/// The last closed window, shared by those who show it.
#[derive(Clone, Default)]
pub(crate) struct LiveView(Arc<Mutex<LiveState>>);

#[derive(Default)]
struct LiveState {
    topic: String,
    fields: Vec<Field>,
    events: u64,
    window: Option<(i64, i64)>,
    total: u64,
    late: u64,
    clamped: u64,
    windows: u64,
}

/// A counted field: each value that was ever told, and how often it is there now.
struct Field {
    name: String,
    /// What its metric and its label are called.
    label: String,
    values: BTreeMap<String, u64>,
}

impl LiveView {
    /// Returns what there is to see of these fields of events from `topic`, before anything is counted.
    pub(crate) fn new(topic: String, fields: &[String]) -> Self {
        let mut taken: Vec<String> = TAKEN.map(str::to_owned).into();
        let field = |name: &String| {
            let mut label = label(name);
            while taken.contains(&label) {
                label.push('_');
            }
            taken.push(label.clone());
            Field { name: name.clone(), label, values: BTreeMap::new() }
        };
        let fields = fields.iter().map(field).collect();
        Self(Arc::new(Mutex::new(LiveState { topic, fields, ..LiveState::default() })))
    }

    fn shown(&self) -> MutexGuard<'_, LiveState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a window that is closed, and how many events there were up to its end.
    pub(crate) fn closed(&self, window: &Window, total: u64) {
        let shown = &mut *self.shown();
        shown.window = Some((window.start, window.end));
        shown.events = window.counts.events;
        shown.total = total;
        shown.windows += 1;
        for (at, field) in shown.fields.iter_mut().enumerate() {
            field.values.values_mut().for_each(|count| *count = 0);
            for (value, count) in window.counts.values(at) {
                let known = field.values.len() < SERIES || field.values.contains_key(value);
                *field.values.entry(if known { value } else { OTHER }.to_owned()).or_default() += count;
            }
        }
    }

    /// Shows that nothing has happened for longer than a window.
    pub(crate) fn silent(&self) {
        let shown = &mut *self.shown();
        shown.events = 0;
        shown.fields.iter_mut().flat_map(|field| field.values.values_mut()).for_each(|count| *count = 0);
    }

    /// Counts events that were late, and events whose time was not taken.
    pub(crate) fn odd(&self, late: u64, clamped: u64) {
        if late + clamped > 0 {
            let mut shown = self.shown();
            shown.late += late;
            shown.clamped += clamped;
        }
    }

    /// Returns the metrics.
    pub(crate) fn appendix(&self) -> ExtraMetrics {
        let latest = self.clone();
        Box::new(move |page| latest.shown().tell(page))
    }

    /// Returns the table for a terminal.
    pub(crate) fn table(&self) -> String {
        self.shown().table()
    }
}

impl LiveState {
    fn tell(&self, page: &mut Exposition) {
        for Field { name, label, values } in &self.fields {
            let help = format!("Events of the last closed window, by {name}.");
            let samples =
                values.iter().map(|(value, count)| (vec![(label.as_str(), value.as_str()), ("topic", &self.topic)], *count));
            page.family(&format!("sdl_{label}_count"), MetricKind::Gauge, &help, samples);
        }
        let total = (vec![("record_type", TOTAL), ("topic", self.topic.as_str())], self.events);
        page.family("sdl_total_count", MetricKind::Gauge, "Events of the last closed window.", [total]);
        let counters = [
            ("sdl_windows_closed_total", "Windows that were closed and published.", self.windows),
            ("sdl_late_events_total", "Events that came when their window was closed.", self.late),
            ("sdl_clamped_events_total", "Events from the future, counted at the time of their record.", self.clamped),
        ];
        for (name, help, count) in counters {
            page.family(name, MetricKind::Counter, help, [(Vec::new(), count)]);
        }
        if let Some((_, end)) = self.window {
            let help = "End of the last closed window, in seconds since the Unix epoch.";
            page.family("sdl_window_end_timestamp_seconds", MetricKind::Gauge, help, [(Vec::new(), end / 1000)]);
        }
    }

    fn table(&self) -> String {
        let Some((start, end)) = self.window else { return "no window is closed yet".to_owned() };
        let time = |time: i64| jiff::Timestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string());
        let mut text =
            format!("window {} to {}: {} events, {} in all", time(start), time(end), grouped(self.events), grouped(self.total));
        if self.late > 0 {
            let _ = write!(text, ", {} late", grouped(self.late));
        }
        for Field { name, values, .. } in &self.fields {
            let mut most: Vec<_> = values.iter().filter(|(_, count)| **count > 0).collect();
            most.sort_by_key(|(value, count)| (std::cmp::Reverse(**count), (*value).clone()));
            let more = most.len().saturating_sub(ROWS);
            let shown = most.iter().take(ROWS).map(|(value, count)| format!("{} {}", escape_controls(value), grouped(**count)));
            let more = (more > 0).then(|| format!("{more} more"));
            let _ = write!(text, "\n  {name:<12} {}", shown.chain(more).collect::<Vec<_>>().join(" · "));
        }
        text
    }
}

/// Returns a field's name as a label's.
fn label(field: &str) -> String {
    let text: String = field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match text.trim_start_matches('_') {
        // Labels that begin with two underscores are Prometheus's own.
        rest if text.starts_with("__") => format!("_{rest}"),
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => format!("_{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::counts::Counts;
    use crate::windows::projection::FieldSelector;

    fn window(kinds: &[&str]) -> Window {
        let selector = FieldSelector::new(&["kind".to_owned()], &[], None).unwrap();
        let mut counts = Counts::default();
        for kind in kinds {
            counts.add(&selector.select(format!("{{\"kind\": \"{kind}\"}}").as_bytes()).unwrap());
        }
        Window { start: 0, end: 10_000, counts }
    }

    fn page(latest: &LiveView) -> String {
        let mut page = Exposition::default();
        latest.appendix()(&mut page);
        page.into_text()
    }

    #[test]
    fn a_value_that_a_window_lacks_is_nought_and_not_gone() {
        let latest = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        assert!(page(&latest).contains("sdl_total_count{record_type=\"total\",topic=\"logins\"} 0\n"));
        latest.closed(&window(&["a", "a", "b"]), 3);
        assert!(page(&latest).contains("sdl_kind_count{kind=\"a\",topic=\"logins\"} 2\n"));
        latest.closed(&window(&["b"]), 4);
        let told = page(&latest);
        assert!(told.contains("sdl_kind_count{kind=\"a\",topic=\"logins\"} 0\nsdl_kind_count{kind=\"b\",topic=\"logins\"} 1\n"));
        assert!(told.contains("sdl_total_count{record_type=\"total\",topic=\"logins\"} 1\n"), "{told}");
        assert!(told.contains("sdl_windows_closed_total 2\n") && told.contains("sdl_window_end_timestamp_seconds 10\n"));
        latest.silent();
        assert!(page(&latest).contains("sdl_kind_count{kind=\"b\",topic=\"logins\"} 0\n"));
    }

    #[test]
    fn whoever_writes_events_does_not_make_the_page_grow() {
        let latest = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        for round in 0..5 {
            let kinds: Vec<String> = (0..SERIES).map(|n| format!("{round}-{n}")).collect();
            latest.closed(&window(&kinds.iter().map(String::as_str).collect::<Vec<_>>()), 0);
        }
        let told = page(&latest);
        assert_eq!(told.matches("sdl_kind_count{").count(), SERIES + 1);
        assert!(told.contains(&format!("sdl_kind_count{{kind=\"(other)\",topic=\"logins\"}} {SERIES}\n")));
    }

    #[test]
    fn fields_whose_names_are_taken_or_alike_have_metrics_of_their_own() {
        let fields = ["topic", "total", "a.b", "a_b", "__name__", "2fa"].map(str::to_owned);
        let labels: Vec<_> =
            LiveView::new(String::new(), &fields).shown().fields.iter().map(|field| field.label.clone()).collect();
        assert_eq!(labels, ["topic_", "total_", "a_b", "a_b_", "_name__", "_2fa"]);
    }

    #[test]
    fn the_table_shows_the_most_frequent_values_and_no_escapes() {
        let latest = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        assert_eq!(latest.table(), "no window is closed yet");
        let kinds = ["a", "b", "b", "c", "d", "e", "f", "g", "h", "\\u001b[2J"];
        latest.closed(&window(&kinds), 1234);
        latest.odd(5, 0);
        let table = latest.table();
        assert!(table.starts_with("window 1970-01-01T00:00:00Z to 1970-01-01T00:00:10Z: 10 events, 1,234 in all, 5 late\n"));
        assert!(table.ends_with("1 more") && table.contains("b 2 · ") && !table.contains('\x1b'), "{table}");
    }
}
