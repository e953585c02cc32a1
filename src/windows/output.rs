//! The messages of a closed window: one summary, or a row for each value. Pure.
//!
//! | message | fields | key |
//! |---|---|---|
//! | summary | `timestamp_start`, `timestamp_end` (Unix seconds), `interval_messages_consumed`, `total_messages_consumed`, `interval_missing_field_count`, `interval_<field>_count`, `total_missing_field_count`, `total_<field>_count` (objects: field or value to number) | `summary:START:END` |
//! | row | `processing_time` (the window's end, ISO 8601 in UTC), `record_type` (a counted field, or `total`), a field of that name with the value (`all` for the total), `count` | `TYPE:VALUE:START:END` |
//!
//! The key identifies the window: in a compacted topic a window that is published again replaces its older messages.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::windows::counts::Counts;
use crate::windows::tumbling::Window;

/// `record_type` of the row with the total.
pub(crate) const TOTAL: &str = "total";
/// Value in the row with the total.
const ALL: &str = "all";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputForm {
    /// One message for each window, with running totals
    #[default]
    Summary,
    /// One message for each value in a window, and one for the window
    Rows,
}

/// Formats closed windows.
#[derive(Clone, Debug)]
pub(crate) struct WindowFormatter {
    pub(crate) form: OutputForm,
    pub(crate) counted: Vec<String>,
    pub(crate) required: Vec<String>,
}

impl WindowFormatter {
    /// Returns key and JSON value of each message of `window`; `total` counts every event up to the window's end.
    pub(crate) fn messages(&self, window: &Window, total: &Counts) -> Vec<(String, String)> {
        match self.form {
            OutputForm::Summary => vec![self.summary(window, total)],
            OutputForm::Rows => self.rows(window),
        }
    }

    fn summary(&self, window: &Window, total: &Counts) -> (String, String) {
        let (start, end) = (window.start / 1000, window.end / 1000);
        let mut fields: Vec<(String, Value)> = vec![
            ("timestamp_start".to_owned(), start.into()),
            ("timestamp_end".to_owned(), end.into()),
            ("interval_messages_consumed".to_owned(), window.counts.events.into()),
            ("total_messages_consumed".to_owned(), total.events.into()),
        ];
        for (prefix, counts) in [("interval", &window.counts), ("total", total)] {
            let missing = self.required.iter().enumerate().map(|(at, field)| (field.clone(), counts.missing(at)));
            let missing: Map<_, _> =
                missing.filter(|(_, count)| *count > 0).map(|(field, count)| (field, count.into())).collect();
            fields.push((format!("{prefix}_missing_field_count"), missing.into()));
            for (at, field) in self.counted.iter().enumerate() {
                let values: Map<_, _> =
                    counts.values(at).into_iter().map(|(value, count)| (value.to_owned(), count.into())).collect();
                fields.push((format!("{prefix}_{field}_count"), values.into()));
            }
        }
        (format!("summary:{start}:{end}"), object(&fields))
    }

    fn rows(&self, window: &Window) -> Vec<(String, String)> {
        let (start, end) = (window.start / 1000, window.end / 1000);
        let time = jiff::Timestamp::from_second(end).map_or_else(|_| end.to_string(), |time| time.to_string());
        let row = |kind: &str, value: &str, count: u64| {
            let fields = [
                ("processing_time".to_owned(), time.as_str().into()),
                ("record_type".to_owned(), kind.into()),
                (kind.to_owned(), value.into()),
                ("count".to_owned(), count.into()),
            ];
            (format!("{kind}:{value}:{start}:{end}"), object(&fields))
        };
        let mut rows = Vec::new();
        for (at, field) in self.counted.iter().enumerate() {
            rows.extend(window.counts.values(at).into_iter().map(|(value, count)| row(field, value, count)));
        }
        rows.push(row(TOTAL, ALL, window.counts.events));
        rows
    }

    /// Returns whether the output includes running totals.
    pub(crate) fn has_totals(&self) -> bool {
        self.form == OutputForm::Summary
    }

    /// Parses the running totals of a summary; `None` if it is not a summary of these fields.
    pub(crate) fn totals(&self, summary: &[u8]) -> Option<Counts> {
        let value: Map<String, Value> = serde_json::from_slice(summary).ok()?;
        let events = value.get("total_messages_consumed")?.as_u64()?;
        let missing = value.get("total_missing_field_count")?.as_object()?;
        let missing = self.required.iter().map(|field| missing.get(field).and_then(Value::as_u64).unwrap_or(0)).collect();
        let values = self.counted.iter().map(|field| {
            let counts = value.get(&format!("total_{field}_count"))?.as_object()?;
            counts.iter().map(|(value, count)| Some((value.as_str().into(), count.as_u64()?))).collect::<Option<HashMap<_, _>>>()
        });
        Some(Counts::new(events, missing, values.collect::<Option<_>>()?))
    }
}

/// Returns a JSON object that keeps the order of its fields, for human readers.
fn object(fields: &[(String, Value)]) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::windows::projection::FieldSelector;

    fn formatter(form: OutputForm) -> WindowFormatter {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        WindowFormatter { form, counted: fields(&["device_type", "locale"]), required: fields(&["device_type", "ip"]) }
    }

    fn window() -> Window {
        let formatter = formatter(OutputForm::Summary);
        let selector = FieldSelector::new(&formatter.counted, &formatter.required, None).unwrap();
        let mut counts = Counts::default();
        for event in [r#"{"device_type": "iOS", "locale": "RU", "ip": "1"}"#, r#"{"device_type": "iOS", "locale": "US"}"#, "{}"] {
            counts.add(&selector.select(event.as_bytes()).unwrap());
        }
        Window { start: 1_694_479_550_000, end: 1_694_479_560_000, counts }
    }

    #[test]
    fn a_summary_holds_the_window_and_the_running_totals() {
        let mut total = window().counts;
        total.merge(&window().counts);
        let [(key, value)] = &formatter(OutputForm::Summary).messages(&window(), &total)[..] else { panic!() };
        assert_eq!(key, "summary:1694479550:1694479560");
        assert!(value.starts_with(r#"{"timestamp_start":1694479550,"timestamp_end":1694479560,"interval_messages_consumed":3,"#));
        assert_eq!(
            serde_json::from_str::<Value>(value).unwrap(),
            json!({
                "timestamp_start": 1_694_479_550, "timestamp_end": 1_694_479_560,
                "interval_messages_consumed": 3, "total_messages_consumed": 6,
                "interval_missing_field_count": {"device_type": 1, "ip": 2},
                "interval_device_type_count": {"iOS": 2}, "interval_locale_count": {"RU": 1, "US": 1},
                "total_missing_field_count": {"device_type": 2, "ip": 4},
                "total_device_type_count": {"iOS": 4}, "total_locale_count": {"RU": 2, "US": 2},
            })
        );
    }

    #[test]
    fn rows_hold_each_value_and_the_total() {
        let rows = formatter(OutputForm::Rows).messages(&window(), &Counts::default());
        let keys: Vec<_> = rows.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(
            keys,
            [
                "device_type:iOS:1694479550:1694479560",
                "locale:RU:1694479550:1694479560",
                "locale:US:1694479550:1694479560",
                "total:all:1694479550:1694479560"
            ]
        );
        assert_eq!(
            rows.iter().map(|row| serde_json::from_str(&row.1).unwrap()).collect::<Vec<Value>>()[..],
            [
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "device_type", "device_type": "iOS", "count": 2}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "locale", "locale": "RU", "count": 1}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "locale", "locale": "US", "count": 1}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "total", "total": "all", "count": 3}),
            ]
        );
    }

    #[test]
    fn totals_continue_from_a_summary() {
        let formatter = formatter(OutputForm::Summary);
        let total = window().counts;
        let summary = formatter.messages(&window(), &total).remove(0);
        assert_eq!(formatter.totals(summary.1.as_bytes()), Some(total));
        for other in ["", "{}", "[]", r#"{"total_messages_consumed": 1, "total_missing_field_count": {}}"#] {
            assert_eq!(formatter.totals(other.as_bytes()), None, "{other}");
        }
    }
}
