//! The fields of an event that windows need: its time, the counted fields, and the required ones. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::pipeline::Reason;
use crate::shape::{self, FieldPath};

/// The largest number of selected fields.
const MAX_FIELDS: usize = 24;

/// Selects fields of events.
#[derive(Clone, Debug)]
pub struct FieldSelector {
    /// Every field once.
    fields: Vec<FieldPath>,
    counted: Vec<usize>,
    required: Vec<usize>,
    time: Option<usize>,
}

/// The selected fields of one event.
#[derive(Clone, Debug)]
pub struct EventFields<'r> {
    values: [FieldValue<'r>; MAX_FIELDS],
    missing: [bool; MAX_FIELDS],
    counted: usize,
    required: usize,
    has_missing: bool,
    time: Option<i64>,
    /// One bit for each field of the selector.
    present: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValue<'r> {
    /// Absent or null.
    #[default]
    Missing,
    /// Text, or the JSON text of a number or a boolean.
    Scalar(Cow<'r, str>),
    /// An array or an object.
    Nested,
}

impl FieldSelector {
    /// Returns a selector of the `counted` fields, the `required` fields, and the `time` field.
    ///
    /// # Errors
    /// When a field name is not valid, or there are more than 24 fields.
    pub fn new(counted: &[String], required: &[String], time: Option<&str>) -> Result<Self, String> {
        let mut fields: Vec<FieldPath> = Vec::new();
        let mut index = |text: &str| {
            let path = FieldPath::parse(text)?;
            let known = fields.iter().position(|field| *field == path);
            Ok::<_, String>(known.unwrap_or_else(|| {
                fields.push(path);
                fields.len() - 1
            }))
        };
        let counted: Vec<usize> = counted.iter().map(|text| index(text)).collect::<Result<_, _>>()?;
        let required: Vec<usize> = required.iter().map(|text| index(text)).collect::<Result<_, _>>()?;
        let time = time.map(index).transpose()?;
        if fields.len() > MAX_FIELDS {
            return Err(format!("{} fields are named, the limit is {MAX_FIELDS}", fields.len()));
        }
        Ok(Self { fields, counted, required, time })
    }

    /// Returns the names of counted, required and time fields that no event had: `present` combines [`EventFields::present`] of all.
    pub(crate) fn absent(&self, present: u32) -> Vec<String> {
        let absent = self.fields.iter().enumerate().filter(|(at, _)| present & (1 << at) == 0);
        absent.map(|(_, path)| path.names().join(".")).collect()
    }

    /// Selects the fields of an event.
    ///
    /// # Errors
    /// When the event is not a JSON object.
    pub fn select<'r>(&self, event: &'r [u8]) -> Result<EventFields<'r>, Reason> {
        let mut found: [Option<&'r str>; MAX_FIELDS] = [None; MAX_FIELDS];
        let not_json = |why: &str| Reason::from(shape::not_json_error(event, why));
        let text = shape::without_bom(std::str::from_utf8(event).map_err(|error| not_json(&error.to_string()))?);
        let mut json = serde_json::Deserializer::from_str(text);
        if text.trim_start().starts_with('{') {
            json.deserialize_map(EventVisitor { selector: self, found: &mut found })
                .map_err(|error| not_json(&error.to_string()))?;
        } else {
            json.deserialize_ignored_any(IgnoredAny).map_err(|error| not_json(&error.to_string()))?;
            json.end().map_err(|error| not_json(&error.to_string()))?;
            return Err(Reason::new("not_an_object", "the value is JSON, but not an object"));
        }
        json.end().map_err(|error| not_json(&error.to_string()))?;
        let mut fields = EventFields {
            values: [const { FieldValue::Missing }; MAX_FIELDS],
            missing: [false; MAX_FIELDS],
            counted: self.counted.len(),
            required: self.required.len(),
            has_missing: false,
            time: None,
            present: 0,
        };
        for (at, text) in found[..self.fields.len()].iter().enumerate() {
            fields.present |= u32::from(text.is_some_and(|text| text != "null")) << at;
        }
        for (at, index) in self.counted.iter().enumerate() {
            fields.values[at] = found[*index].map_or(FieldValue::Missing, value);
        }
        for (at, index) in self.required.iter().enumerate() {
            let missing = found[*index].is_none_or(|text| text == "null");
            fields.missing[at] = missing;
            fields.has_missing |= missing;
        }
        fields.time = self.time.and_then(|index| found[index]).and_then(time);
        Ok(fields)
    }
}

impl<'r> EventFields<'r> {
    /// Returns the values of the counted fields, in the order of the selector.
    pub(crate) fn values(&self) -> &[FieldValue<'r>] {
        &self.values[..self.counted]
    }

    /// Returns for each required field, in the order of the selector, whether it is missing.
    pub(crate) fn missing(&self) -> &[bool] {
        &self.missing[..self.required]
    }

    /// Returns whether any required field is missing.
    pub(crate) fn has_missing(&self) -> bool {
        self.has_missing
    }

    /// Returns which fields of the selector are there and not null, one bit for each.
    pub(crate) fn present(&self) -> u32 {
        self.present
    }

    /// Returns the time field in milliseconds since the Unix epoch; `None` if it is missing or does not hold a time.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        self.time
    }
}

fn value(text: &str) -> FieldValue<'_> {
    match text.as_bytes() {
        b"null" => FieldValue::Missing,
        [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => FieldValue::Scalar(Cow::Borrowed(&text[1..text.len() - 1])),
        [b'"', ..] => {
            serde_json::from_str::<String>(text).map_or(FieldValue::Nested, |text| FieldValue::Scalar(Cow::Owned(text)))
        }
        [b'{' | b'[', ..] => FieldValue::Nested,
        _ => FieldValue::Scalar(Cow::Borrowed(text)),
    }
}

/// Parses a JSON value as a time: Unix seconds or milliseconds, or ISO 8601, as number or text.
fn time(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    // Nearly every time is ten digits: seconds.
    if digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse::<i64>().ok().map(|seconds| seconds * 1000);
    }
    shape::parse_time(text).map(shape::UtcTime::as_millisecond)
}

struct EventVisitor<'a, 'r> {
    selector: &'a FieldSelector,
    found: &'a mut [Option<&'r str>; MAX_FIELDS],
}

impl<'r> Visitor<'r> for EventVisitor<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'r>>()? {
            let fits = |path: &FieldPath| path.names()[0] == name.0;
            if self.selector.fields.iter().any(fits) {
                let value = map.next_value::<&'r RawValue>()?.get();
                for (path, found) in self.selector.fields.iter().zip(self.found.iter_mut()).filter(|(path, _)| fits(path)) {
                    *found = shape::value_at(value, &path.names()[1..]);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Name<'r>(#[serde(borrow)] Cow<'r, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn selector() -> FieldSelector {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        FieldSelector::new(&fields(&["device_type", "app.version"]), &fields(&["device_type", "ip"]), Some("timestamp")).unwrap()
    }

    #[test]
    fn fields_are_selected_as_they_are_written() {
        let event = br#"{"timestamp": "1694479551", "app": {"version": 2.30}, "device_type": "i\u004fS", "more": [{}]}"#;
        let selector = selector();
        let fields = selector.select(event).unwrap();
        assert_eq!(fields.values(), [FieldValue::Scalar("iOS".into()), FieldValue::Scalar("2.30".into())]);
        assert_eq!((fields.missing(), fields.has_missing()), (&[false, true][..], true));
        assert_eq!(fields.time(), Some(1_694_479_551_000));
    }

    #[test]
    fn fields_that_no_event_has_are_named() {
        let selector = selector();
        let events = [&br#"{"device_type": "iOS", "app": {"version": null}}"#[..], br#"{"ip": null, "timestamp": "soon"}"#];
        let present = events.iter().map(|event| selector.select(event).unwrap().present()).fold(0, |all, one| all | one);
        assert_eq!(selector.absent(present), ["app.version", "ip"]);
    }

    #[test]
    fn times_are_read_as_numbers_and_as_text() {
        let selector = selector();
        for (text, time) in [
            ("1694479551", Some(1_694_479_551_000)),
            ("1694479551123", Some(1_694_479_551_123)),
            ("\"2023-09-12T00:45:51Z\"", Some(1_694_479_551_000)),
            ("1694479551.5", Some(1_694_479_551_500)),
            ("\"soon\"", None),
            ("null", None),
            ("[1694479551]", None),
        ] {
            let event = format!("{{\"timestamp\": {text}}}");
            assert_eq!(selector.select(event.as_bytes()).unwrap().time(), time, "{text}");
        }
        assert_eq!(selector.select(b"{}").unwrap().time(), None);
    }

    #[test]
    fn only_a_json_object_is_an_event_and_nested_values_are_not_parsed() {
        let selector = selector();
        for (value, code) in [(&b"[]"[..], "not_an_object"), (b"7", "not_an_object"), (b"{", "not_json"), (b"", "not_json")] {
            assert_eq!(selector.select(value).unwrap_err().code(), code);
        }
        for event in [&b"\xff"[..], b"{} {}", b"[1] x"] {
            assert_eq!(selector.select(event).unwrap_err().code(), "not_json");
        }
        let event = br#"{"device_type": [1], "app": "2", "ip": false, "ip": null}"#;
        let fields = selector.select(event).unwrap();
        assert_eq!(fields.values(), [FieldValue::Nested, FieldValue::Missing]);
        assert_eq!(fields.missing(), [false, true]);
    }

    #[test]
    fn field_names_and_their_number_are_checked() {
        assert!(FieldSelector::new(&["a..b".to_owned()], &[], None).is_err());
        let many: Vec<String> = (0..=MAX_FIELDS).map(|n| format!("f{n}")).collect();
        assert_eq!(FieldSelector::new(&many, &[], None).unwrap_err(), "25 fields are named, the limit is 24");
        assert!(FieldSelector::new(&many[..20], &many[..20], Some("f1")).is_ok());
    }
}
