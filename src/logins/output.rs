//! What is told of a closed window: one summary, or a row for each value. Pure.
//!
//! | message | fields | key |
//! |---|---|---|
//! | summary | `timestamp_start`, `timestamp_end` (Unix seconds), `interval_messages_consumed`, `total_messages_consumed`, `interval_missing_field_count`, `interval_<field>_count`, `total_missing_field_count`, `total_<field>_count` (objects: field or value to number) | `summary:START:END` |
//! | row | `processing_time` (the window's end, ISO 8601 in UTC), `record_type` (a counted field, or `total`), a field of that name with the value (`all` for the total), `count` | `TYPE:VALUE:START:END` |
//!
//! The keys say which window it is, so that in a compacted topic a window that is told again takes the place of what was told
//! before.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::logins::counts::Counts;
use crate::logins::windows::Window;

/// What the row of the total has for a type.
pub const TOTAL: &str = "total";
/// What the row of the total has for a value.
pub const ALL: &str = "all";

/// What is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputForm {
    /// One message for each window, with the totals so far.
    #[default]
    Summary,
    /// A message for each value that a window has, and one for the window.
    Rows,
}

/// A message about a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputMessage {
    /// Its key.
    pub key: String,
    /// Its value, JSON.
    pub value: String,
}

/// What messages are made of: the names of the counted and of the required fields.
#[derive(Clone, Debug)]
pub struct WindowFormatter {
    /// What is told.
    pub telling: OutputForm,
    /// The counted fields.
    pub counted: Vec<String>,
    /// The required fields.
    pub required: Vec<String>,
}

impl WindowFormatter {
    /// Returns the messages about `window`; `total` counts everything up to its end.
    #[must_use]
    pub fn tell(&self, window: &Window, total: &Counts) -> Vec<OutputMessage> {
        match self.telling {
            OutputForm::Summary => vec![self.summary(window, total)],
            OutputForm::Rows => self.rows(window),
        }
    }

    fn summary(&self, window: &Window, total: &Counts) -> OutputMessage {
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
        OutputMessage { key: format!("summary:{start}:{end}"), value: object(&fields) }
    }

    fn rows(&self, window: &Window) -> Vec<OutputMessage> {
        let (start, end) = (window.start / 1000, window.end / 1000);
        let time = jiff::Timestamp::from_second(end).map_or_else(|_| end.to_string(), |time| time.to_string());
        let row = |kind: &str, value: &str, count: u64| OutputMessage {
            key: format!("{kind}:{value}:{start}:{end}"),
            value: object(&[
                ("processing_time".to_owned(), time.as_str().into()),
                ("record_type".to_owned(), kind.into()),
                (kind.to_owned(), value.into()),
                ("count".to_owned(), count.into()),
            ]),
        };
        let mut rows = Vec::new();
        for (at, field) in self.counted.iter().enumerate() {
            rows.extend(window.counts.values(at).into_iter().map(|(value, count)| row(field, value, count)));
        }
        rows.push(row(TOTAL, ALL, window.counts.events));
        rows
    }

    /// Returns whether what is told says the totals.
    #[must_use]
    pub fn has_totals(&self) -> bool {
        self.telling == OutputForm::Summary
    }

    /// Returns the totals that a summary says; none if it is no summary of these fields.
    #[must_use]
    pub fn totals(&self, summary: &[u8]) -> Option<Counts> {
        let value: Map<String, Value> = serde_json::from_slice(summary).ok()?;
        let events = value.get("total_messages_consumed")?.as_u64()?;
        let missing = value.get("total_missing_field_count")?.as_object()?;
        let missing = self.required.iter().map(|field| missing.get(field).and_then(Value::as_u64).unwrap_or(0)).collect();
        let values = self.counted.iter().map(|field| {
            let counts = value.get(&format!("total_{field}_count"))?.as_object()?;
            counts.iter().map(|(value, count)| Some((value.as_str().into(), count.as_u64()?))).collect::<Option<HashMap<_, _>>>()
        });
        Some(Counts::of(events, missing, values.collect::<Option<_>>()?))
    }
}

/// Returns a JSON object with its fields in this order, for people who look at it.
fn object(fields: &[(String, Value)]) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::logins::projection::FieldSelector;

    fn teller(telling: OutputForm) -> WindowFormatter {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        WindowFormatter { telling, counted: fields(&["device_type", "locale"]), required: fields(&["device_type", "ip"]) }
    }

    fn window() -> Window {
        let teller = teller(OutputForm::Summary);
        let sights = FieldSelector::new(&teller.counted, &teller.required, None).unwrap();
        let mut counts = Counts::default();
        for event in [r#"{"device_type": "iOS", "locale": "RU", "ip": "1"}"#, r#"{"device_type": "iOS", "locale": "US"}"#, "{}"] {
            counts.add(&sights.look(event.as_bytes()).unwrap());
        }
        Window { start: 1_694_479_550_000, end: 1_694_479_560_000, counts }
    }

    #[test]
    fn a_summary_says_the_window_and_the_totals() {
        let mut total = window().counts;
        total.merge(&window().counts);
        let [OutputMessage { key, value }] = &teller(OutputForm::Summary).tell(&window(), &total)[..] else { panic!() };
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
    fn rows_say_each_value_and_the_total() {
        let rows = teller(OutputForm::Rows).tell(&window(), &Counts::default());
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
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
            rows.iter().map(|row| serde_json::from_str(&row.value).unwrap()).collect::<Vec<Value>>()[..],
            [
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "device_type", "device_type": "iOS", "count": 2}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "locale", "locale": "RU", "count": 1}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "locale", "locale": "US", "count": 1}),
                json!({"processing_time": "2023-09-12T00:46:00Z", "record_type": "total", "total": "all", "count": 3}),
            ]
        );
    }

    #[test]
    fn totals_go_on_from_a_summary() {
        let teller = teller(OutputForm::Summary);
        let total = window().counts;
        let told = teller.tell(&window(), &total).remove(0);
        assert_eq!(teller.totals(told.value.as_bytes()), Some(total));
        for other in ["", "{}", "[]", r#"{"total_messages_consumed": 1, "total_missing_field_count": {}}"#] {
            assert_eq!(teller.totals(other.as_bytes()), None, "{other}");
        }
    }
}
