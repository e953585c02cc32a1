//! What is looked at in an event: its time, the fields that are counted, and those that should be there. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::pipeline::Reason;
use crate::shape::{self, FieldPath};

/// The most fields that are looked at.
pub const MOST_FIELDS: usize = 24;

/// Which fields are looked at.
#[derive(Clone, Debug)]
pub struct FieldSelector {
    /// Every field once.
    fields: Vec<FieldPath>,
    counted: Vec<usize>,
    required: Vec<usize>,
    time: Option<usize>,
}

/// What was seen of one event.
#[derive(Clone, Debug)]
pub struct EventFields<'r> {
    values: [FieldValue<'r>; MOST_FIELDS],
    missing: [bool; MOST_FIELDS],
    counted: usize,
    required: usize,
    lacks: bool,
    time: Option<i64>,
}

/// The value of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldValue<'r> {
    /// None, or null.
    #[default]
    Missing,
    /// Text, or a number or truth value as it is written.
    Is(Cow<'r, str>),
    /// An array or an object.
    Odd,
}

impl FieldSelector {
    /// Returns the look at fields that are `counted`, at fields that are `required`, and at the one with the `time`.
    ///
    /// # Errors
    /// When a field's name is none, or they are too many.
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
        if fields.len() > MOST_FIELDS {
            return Err(format!("these are {} fields; at most {MOST_FIELDS} can be looked at", fields.len()));
        }
        Ok(Self { fields, counted, required, time })
    }

    /// Returns what is to be seen in an event.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn look<'r>(&self, event: &'r [u8]) -> Result<EventFields<'r>, Reason> {
        let mut found: [Option<&'r str>; MOST_FIELDS] = [None; MOST_FIELDS];
        let not_json = |why: &str| Reason::from(shape::not_json(event, why));
        let text = std::str::from_utf8(event).map_err(|error| not_json(&error.to_string()))?;
        let mut json = serde_json::Deserializer::from_str(text);
        if text.trim_start().starts_with('{') {
            json.deserialize_map(EventVisitor { sights: self, found: &mut found })
                .map_err(|error| not_json(&error.to_string()))?;
        } else {
            json.deserialize_ignored_any(IgnoredAny).map_err(|error| not_json(&error.to_string()))?;
            json.end().map_err(|error| not_json(&error.to_string()))?;
            return Err(Reason::new("not_an_object", "an event is a JSON object, this is another value"));
        }
        json.end().map_err(|error| not_json(&error.to_string()))?;
        let mut sight = EventFields {
            values: [const { FieldValue::Missing }; MOST_FIELDS],
            missing: [false; MOST_FIELDS],
            counted: self.counted.len(),
            required: self.required.len(),
            lacks: false,
            time: None,
        };
        for (place, index) in self.counted.iter().enumerate() {
            sight.values[place] = found[*index].map_or(FieldValue::Missing, value);
        }
        for (place, index) in self.required.iter().enumerate() {
            let missing = found[*index].is_none_or(|text| text == "null");
            sight.missing[place] = missing;
            sight.lacks |= missing;
        }
        sight.time = self.time.and_then(|index| found[index]).and_then(time);
        Ok(sight)
    }
}

impl<'r> EventFields<'r> {
    /// Returns the values of the counted fields, in their order.
    #[must_use]
    pub fn values(&self) -> &[FieldValue<'r>] {
        &self.values[..self.counted]
    }

    /// Returns, for each required field in their order, whether it is missing.
    #[must_use]
    pub fn missing(&self) -> &[bool] {
        &self.missing[..self.required]
    }

    /// Returns whether a required field is missing.
    #[must_use]
    pub fn lacks(&self) -> bool {
        self.lacks
    }

    /// Returns the time in the time field, in milliseconds since the Unix epoch; none if there is no such field, or it says no
    /// time.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        self.time
    }
}

fn value(text: &str) -> FieldValue<'_> {
    match text.as_bytes() {
        b"null" => FieldValue::Missing,
        [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => FieldValue::Is(Cow::Borrowed(&text[1..text.len() - 1])),
        [b'"', ..] => serde_json::from_str::<String>(text).map_or(FieldValue::Odd, |text| FieldValue::Is(Cow::Owned(text))),
        [b'{' | b'[', ..] => FieldValue::Odd,
        _ => FieldValue::Is(Cow::Borrowed(text)),
    }
}

/// Returns the time that a JSON value says: Unix seconds or milliseconds, or ISO 8601, as number or text.
fn time(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    // Nearly every time is ten digits: seconds.
    if digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse::<i64>().ok().map(|seconds| seconds * 1000);
    }
    shape::time(text).map(jiff::Timestamp::as_millisecond)
}

struct EventVisitor<'a, 'r> {
    sights: &'a FieldSelector,
    found: &'a mut [Option<&'r str>; MOST_FIELDS],
}

impl<'r> Visitor<'r> for EventVisitor<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name<'r>>()? {
            let fits = |path: &FieldPath| path.names()[0] == name.0;
            if self.sights.fields.iter().any(fits) {
                let value = map.next_value::<&'r RawValue>()?.get();
                for (path, found) in self.sights.fields.iter().zip(self.found.iter_mut()).filter(|(path, _)| fits(path)) {
                    *found = shape::inside(value, &path.names()[1..]);
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

    fn sights() -> FieldSelector {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        FieldSelector::new(&fields(&["device_type", "app.version"]), &fields(&["device_type", "ip"]), Some("timestamp")).unwrap()
    }

    #[test]
    fn an_event_is_seen_as_it_is_written() {
        let event = br#"{"timestamp": "1694479551", "app": {"version": 2.30}, "device_type": "i\u004fS", "more": [{}]}"#;
        let sights = sights();
        let sight = sights.look(event).unwrap();
        assert_eq!(sight.values(), [FieldValue::Is("iOS".into()), FieldValue::Is("2.30".into())]);
        assert_eq!((sight.missing(), sight.lacks()), (&[false, true][..], true));
        assert_eq!(sight.time(), Some(1_694_479_551_000));
    }

    #[test]
    fn times_are_read_as_numbers_and_as_text() {
        let sights = sights();
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
            assert_eq!(sights.look(event.as_bytes()).unwrap().time(), time, "{text}");
        }
        assert_eq!(sights.look(b"{}").unwrap().time(), None);
    }

    #[test]
    fn what_is_no_object_is_no_event_and_odd_fields_are_no_crash() {
        let sights = sights();
        for (value, code) in [(&b"[]"[..], "not_an_object"), (b"7", "not_an_object"), (b"{", "not_json"), (b"", "not_json")] {
            assert_eq!(sights.look(value).unwrap_err().code(), code);
        }
        for event in [&b"\xff"[..], b"{} {}", b"[1] x"] {
            assert_eq!(sights.look(event).unwrap_err().code(), "not_json");
        }
        let event = br#"{"device_type": [1], "app": "2", "ip": false, "ip": null}"#;
        let sight = sights.look(event).unwrap();
        assert_eq!(sight.values(), [FieldValue::Odd, FieldValue::Missing]);
        assert_eq!(sight.missing(), [false, true]);
    }

    #[test]
    fn fields_are_named_and_not_too_many() {
        assert!(FieldSelector::new(&["a..b".to_owned()], &[], None).is_err());
        let many: Vec<String> = (0..=MOST_FIELDS).map(|n| format!("f{n}")).collect();
        assert_eq!(FieldSelector::new(&many, &[], None).unwrap_err(), "these are 25 fields; at most 24 can be looked at");
        assert!(FieldSelector::new(&many[..20], &many[..20], Some("f1")).is_ok());
    }
}
