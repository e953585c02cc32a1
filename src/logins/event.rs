//! The user-login event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The fields of the event, in their order.
pub const FIELDS: [&str; 7] = ["user_id", "app_version", "device_type", "ip", "locale", "device_id", "timestamp"];

/// A parsed user-login event: any field may be missing or null, and other fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(expecting = "a user-login event", default)]
pub struct Login<'a> {
    /// A UUID.
    #[serde(borrow, deserialize_with = "text")]
    pub user_id: Option<Cow<'a, str>>,
    /// For example `2.3.0`.
    #[serde(borrow, deserialize_with = "text")]
    pub app_version: Option<Cow<'a, str>>,
    /// `android` or `iOS`.
    #[serde(borrow, deserialize_with = "text")]
    pub device_type: Option<Cow<'a, str>>,
    /// An IPv4 address in dotted decimals, or its mask.
    #[serde(borrow, deserialize_with = "text")]
    pub ip: Option<Cow<'a, str>>,
    /// The ISO 3166 code of a country: `US`.
    #[serde(borrow, deserialize_with = "text")]
    pub locale: Option<Cow<'a, str>>,
    /// Any text.
    #[serde(borrow, deserialize_with = "text")]
    pub device_id: Option<Cow<'a, str>>,
    /// Unix seconds, as a number or a string.
    #[serde(deserialize_with = "seconds")]
    pub timestamp: Option<i64>,
}

impl<'a> Login<'a> {
    /// Parses an event.
    ///
    /// # Errors
    /// When it is not JSON, no object, or a field has another type.
    pub fn parse(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        // An array would do for a struct; an event is an object.
        match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => serde_json::from_slice(value),
            _ => serde_json::from_slice::<de::IgnoredAny>(value)
                .and_then(|_| Err(de::Error::custom("a user-login event is an object"))),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Text<'de>>::deserialize(field)?.map(|Text(text)| text))
}

fn seconds<'de, D: Deserializer<'de>>(field: D) -> Result<Option<i64>, D::Error> {
    struct Seconds;
    impl Visitor<'_> for Seconds {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Unix seconds, as a number or as text")
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Self::Value, E> {
            Ok(Some(seconds))
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Self::Value, E> {
            i64::try_from(seconds).map(Some).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
        }

        #[allow(clippy::cast_possible_truncation)] // checked against the range just before
        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
            // The largest integers that a float represents exactly.
            if seconds.abs() < 9_007_199_254_740_992.0 {
                return Ok(Some(seconds.floor() as i64));
            }
            Err(E::invalid_value(de::Unexpected::Float(seconds), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.trim().parse().map(Some).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    field.deserialize_any(Seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_whether_its_timestamp_is_a_number_or_text() {
        for timestamp in ["1694479551", "\"1694479551\"", "1694479551.9"] {
            let event = format!(
                r#"{{"user_id": "424cdd21", "app_version": "2.3.0", "device_type": "iOS", "ip": "199.172.111.135", "locale": "\u0052U", "device_id": "593-47-5928", "timestamp": {timestamp}, "more": [1]}}"#
            );
            let login = Login::parse(event.as_bytes()).unwrap();
            assert_eq!((login.locale.as_deref(), login.timestamp), (Some("RU"), Some(1_694_479_551)));
            assert!(matches!(login.user_id, Some(Cow::Borrowed("424cdd21"))), "text without escapes is not copied");
        }
    }

    #[test]
    fn missing_and_null_fields_are_none() {
        assert_eq!(Login::parse(br#"{"locale": null, "timestamp": null}"#).unwrap(), Login::default());
    }

    #[test]
    fn a_value_that_is_not_an_event_is_refused() {
        for value in [&b"[]"[..], b"7", b"", b"{", br#"["a","b","c","d","e","f",1]"#] {
            assert!(Login::parse(value).is_err(), "{value:?}");
        }
        for (value, why) in [
            (r#"{"user_id": 7}"#, "invalid type: integer `7`"),
            (r#"{"timestamp": "soon"}"#, "expected Unix seconds, as a number or as text"),
            (r#"{"timestamp": 1e300}"#, "expected Unix seconds, as a number or as text"),
        ] {
            let error = Login::parse(value.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
