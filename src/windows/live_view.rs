//! The last closed window, as metrics and as a table for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::report::{Exposition, ExtraMetrics, MetricKind, counted, grouped};
use crate::terminal::{escape_controls, human_duration};
use crate::windows::counts::OTHER;
use crate::windows::output::TOTAL;
use crate::windows::tumbling::Window;

/// The largest number of values with a series of their own: a monitoring system keeps every series that it has ever scraped.
const MAX_SERIES: usize = 200;
/// Labels of every series, and other metric names that end in `_count`.
const RESERVED: [&str; 6] = [
    "topic",
    "total",
    "consume_duration_seconds",
    "transform_duration_seconds",
    "response_duration_seconds",
    "batch_processing_duration_seconds",
];
/// The largest number of values in a row of the table.
const MAX_SHOWN: usize = 8;

#[derive(Clone, Default)]
pub(crate) struct LiveView(Arc<Mutex<LiveState>>);

#[derive(Default)]
struct LiveState {
    topic: String,
    fields: Vec<Field>,
    events: u64,
    window: Option<(i64, i64)>,
    /// The oldest open window: its start, the time until which events may come, and its events.
    open: Option<(i64, i64, u64)>,
    total: u64,
    late: u64,
    clamped: u64,
    windows: u64,
}

/// A counted field: every value that was published so far, with its count in the last window.
struct Field {
    name: String,
    /// In the names of its metric and of its label.
    label: String,
    values: BTreeMap<String, u64>,
}

impl LiveView {
    /// Returns the view of these counted fields of events from `topic`.
    pub(crate) fn new(topic: String, fields: &[String]) -> Self {
        let mut taken: Vec<String> = RESERVED.map(str::to_owned).into();
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

    fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a closed window; `total` counts the events up to its end.
    pub(crate) fn window_closed(&self, window: &Window, total: u64) {
        let state = &mut *self.lock();
        state.window = Some((window.start, window.end));
        state.events = window.counts.events;
        state.total = total;
        state.windows += 1;
        for (at, field) in state.fields.iter_mut().enumerate() {
            field.values.values_mut().for_each(|count| *count = 0);
            for (value, count) in window.counts.values(at) {
                let known = field.values.len() < MAX_SERIES || field.values.contains_key(value);
                *field.values.entry(if known { value } else { OTHER }.to_owned()).or_default() += count;
            }
        }
    }

    /// Shows the oldest open window, if there is one: its start, the time until which events may come, and its events.
    pub(crate) fn window_open(&self, open: Option<(i64, i64, u64)>) {
        self.lock().open = open;
    }

    /// Shows zeros: no event has arrived for longer than a window.
    pub(crate) fn idle(&self) {
        let state = &mut *self.lock();
        state.events = 0;
        state.fields.iter_mut().flat_map(|field| field.values.values_mut()).for_each(|count| *count = 0);
    }

    /// Counts late events, and events whose time field was ignored.
    pub(crate) fn add_irregular(&self, late: u64, clamped: u64) {
        if late + clamped > 0 {
            let mut state = self.lock();
            state.late += late;
            state.clamped += clamped;
        }
    }

    pub(crate) fn metrics(&self) -> ExtraMetrics {
        let view = self.clone();
        Box::new(move |page| view.lock().write_metrics(page))
    }

    pub(crate) fn table(&self) -> String {
        self.lock().table(jiff::Timestamp::now().as_millisecond())
    }
}

impl LiveState {
    fn write_metrics(&self, page: &mut Exposition) {
        for Field { name, label, values } in &self.fields {
            let help = format!("Events of the last closed window, by {name}.");
            let samples =
                values.iter().map(|(value, count)| (vec![(label.as_str(), value.as_str()), ("topic", &self.topic)], *count));
            page.family(&format!("sdl_{label}_count"), MetricKind::Gauge, &help, samples);
        }
        let total = (vec![("record_type", TOTAL), ("topic", self.topic.as_str())], self.events);
        page.family("sdl_total_count", MetricKind::Gauge, "Events of the last closed window.", [total]);
        let counters = [
            ("sdl_windows_closed_total", "Windows closed and published.", self.windows),
            ("sdl_late_events_total", "Events that arrived after their window was closed.", self.late),
            (
                "sdl_clamped_events_total",
                "Events with a time ahead of their record, counted at the time of the record.",
                self.clamped,
            ),
        ];
        for (name, help, count) in counters {
            page.family(name, MetricKind::Counter, help, [(Vec::new(), count)]);
        }
        if let Some((_, end)) = self.window {
            let help = "End of the last closed window, in seconds since the Unix epoch.";
            page.family("sdl_window_end_timestamp_seconds", MetricKind::Gauge, help, [(Vec::new(), end / 1000)]);
        }
    }

    /// Returns the open and the last closed window; `now` is the wall clock.
    fn table(&self, now: i64) -> String {
        let time = |time: i64| jiff::Timestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string());
        let open = self.open.map(|(start, until, events)| {
            let ends = match u64::try_from(until - now).unwrap_or(0).div_ceil(1000) {
                0 => "closes with later events or in silence".to_owned(),
                #[allow(clippy::cast_precision_loss)] // a time for people
                seconds => format!("closes in {}", human_duration(seconds as f64)),
            };
            let events = counted(events, "event");
            format!("open since {}: {events}, {ends}", time(start))
        });
        let open = open.unwrap_or_else(|| "no window is open".to_owned());
        let Some((start, end)) = self.window else { return format!("{open}; none is closed yet") };
        let mut text = format!(
            "{open}\nlast window {} to {}: {} events, {} in all",
            time(start),
            time(end),
            grouped(self.events),
            grouped(self.total)
        );
        if self.late > 0 {
            let _ = write!(text, ", {} late", grouped(self.late));
        }
        for Field { name, values, .. } in &self.fields {
            let mut most: Vec<_> = values.iter().filter(|(_, count)| **count > 0).collect();
            most.sort_by_key(|(value, count)| (std::cmp::Reverse(**count), (*value).clone()));
            let more = most.len().saturating_sub(MAX_SHOWN);
            let state =
                most.iter().take(MAX_SHOWN).map(|(value, count)| format!("{} {}", escape_controls(value), grouped(**count)));
            let more = (more > 0).then(|| format!("{more} more"));
            let _ = write!(text, "\n  {name:<12} {}", state.chain(more).collect::<Vec<_>>().join(" · "));
        }
        text
    }
}

/// Returns a valid label for a field name.
fn label(field: &str) -> String {
    let text: String = field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match text.trim_start_matches('_') {
        // Prometheus reserves labels that begin with two underscores.
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

    fn page(view: &LiveView) -> String {
        let mut page = Exposition::default();
        view.metrics()(&mut page);
        page.into_text()
    }

    #[test]
    fn a_value_that_is_absent_from_a_window_has_the_count_zero() {
        let view = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        assert!(page(&view).contains("sdl_total_count{record_type=\"total\",topic=\"logins\"} 0\n"));
        view.window_closed(&window(&["a", "a", "b"]), 3);
        assert!(page(&view).contains("sdl_kind_count{kind=\"a\",topic=\"logins\"} 2\n"));
        view.window_closed(&window(&["b"]), 4);
        let text = page(&view);
        assert!(text.contains("sdl_kind_count{kind=\"a\",topic=\"logins\"} 0\nsdl_kind_count{kind=\"b\",topic=\"logins\"} 1\n"));
        assert!(text.contains("sdl_total_count{record_type=\"total\",topic=\"logins\"} 1\n"), "{text}");
        assert!(text.contains("sdl_windows_closed_total 2\n") && text.contains("sdl_window_end_timestamp_seconds 10\n"));
        view.idle();
        assert!(page(&view).contains("sdl_kind_count{kind=\"b\",topic=\"logins\"} 0\n"));
    }

    #[test]
    fn the_number_of_series_is_bounded_for_any_input() {
        let view = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        for round in 0..5 {
            let kinds: Vec<String> = (0..MAX_SERIES).map(|n| format!("{round}-{n}")).collect();
            view.window_closed(&window(&kinds.iter().map(String::as_str).collect::<Vec<_>>()), 0);
        }
        let text = page(&view);
        assert_eq!(text.matches("sdl_kind_count{").count(), MAX_SERIES + 1);
        assert!(text.contains(&format!("sdl_kind_count{{kind=\"(other)\",topic=\"logins\"}} {MAX_SERIES}\n")));
    }

    #[test]
    fn fields_with_reserved_or_equal_labels_have_metrics_of_their_own() {
        let fields = ["topic", "total", "a.b", "a_b", "__name__", "2fa"].map(str::to_owned);
        let labels: Vec<_> =
            LiveView::new(String::new(), &fields).lock().fields.iter().map(|field| field.label.clone()).collect();
        assert_eq!(labels, ["topic_", "total_", "a_b", "a_b_", "_name__", "_2fa"]);
    }

    #[test]
    fn the_table_shows_the_most_frequent_values_and_no_escapes() {
        let view = LiveView::new("logins".to_owned(), &["kind".to_owned()]);
        assert_eq!(view.lock().table(0), "no window is open; none is closed yet");
        view.window_open(Some((10_000, 20_500, 3)));
        let open = |now| view.lock().table(now);
        assert_eq!(open(13_000), "open since 1970-01-01T00:00:10Z: 3 events, closes in 8s; none is closed yet");
        assert!(open(90_000).contains("3 events, closes with later events or in silence"));
        view.window_open(None);
        let kinds = ["a", "b", "b", "c", "d", "e", "f", "g", "h", "\\u001b[2J"];
        view.window_closed(&window(&kinds), 1234);
        view.add_irregular(5, 0);
        let table = view.table();
        assert!(table.starts_with(
            "no window is open\nlast window 1970-01-01T00:00:00Z to 1970-01-01T00:00:10Z: 10 events, 1,234 in all, 5 late\n"
        ));
        assert!(table.ends_with("1 more") && table.contains("b 2 · ") && !table.contains('\x1b'), "{table}");
    }
}
