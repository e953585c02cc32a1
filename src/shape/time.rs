//! Times in JSON values: `date`.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::shape::decimal::Decimal;
use crate::shape::document::{json_string, plain_text};

/// The formats that [`parse_time`] knows, for hints.
pub(super) const FORMATS: &str = "a date is a number of Unix seconds or milliseconds, or ISO 8601 text";

/// From here on a number is milliseconds: as seconds it is the year 5138, as milliseconds March 1973.
const DIGITS_OF_MILLISECONDS: i64 = 12;

/// Replaces a time by ISO 8601 in UTC: `2023-09-12T00:45:51Z`. A time is Unix seconds or milliseconds, as a number or text, or a
/// date with or without time and zone; without a zone it is UTC. Null stays null.
///
/// # Errors
/// When the value is not a time between the years -9999 and 9999.
pub(super) fn to_iso_8601(value: &mut Cow<'_, str>) -> Result<(), ()> {
    if value == "null" {
        return Ok(());
    }
    let date = json_string(&parse_time(value).ok_or(())?.to_string());
    if date != *value {
        *value = Cow::Owned(date);
    }
    Ok(())
}

/// Returns the time that a JSON value says, as [`date`] reads it.
pub(super) fn parse_time(value: &str) -> Option<Timestamp> {
    let text = plain_text(value);
    let text = text.trim();
    match Decimal::parse(text) {
        Some(number) => {
            let places = if number.whole_digits() >= DIGITS_OF_MILLISECONDS { 6 } else { 9 };
            number.scaled(places).and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok())
        }
        None => text.parse().ok().or_else(|| {
            let civil: DateTime = text.parse().ok()?;
            TimeZone::UTC.to_timestamp(civil).ok()
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dated(value: &str) -> String {
        let mut value = Cow::Borrowed(value);
        to_iso_8601(&mut value).unwrap();
        value.into_owned()
    }

    #[test]
    fn a_time_becomes_iso_8601_however_it_is_written() {
        for (time, date) in [
            ("1694479551", "2023-09-12T00:45:51Z"),
            ("\"1694479551\"", "2023-09-12T00:45:51Z"),
            ("1694479551123", "2023-09-12T00:45:51.123Z"),
            ("\"1694479551000\"", "2023-09-12T00:45:51Z"),
            ("1694479551.25", "2023-09-12T00:45:51.25Z"),
            ("1.694479551e9", "2023-09-12T00:45:51Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("99999999999", "5138-11-16T09:46:39Z"),
            ("100000000000", "1973-03-03T09:46:40Z"),
            ("\"2023-09-12T02:45:51+02:00\"", "2023-09-12T00:45:51Z"),
            ("\"2023-09-12T00:45:51Z\"", "2023-09-12T00:45:51Z"),
            ("\"2023-09-12 00:45:51.5\"", "2023-09-12T00:45:51.5Z"),
            ("\"2023-09-12\"", "2023-09-12T00:00:00Z"),
        ] {
            assert_eq!(dated(time), format!("\"{date}\""), "{time}");
        }
        assert_eq!(dated("null"), "null");
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for value in ["\"yesterday\"", "\"\"", "true", "{}", "1e30", "1e300", "\"2023-13-01\"", "\"12:30\""] {
            let mut text = Cow::Borrowed(value);
            assert_eq!(to_iso_8601(&mut text), Err(()), "{value}");
            assert_eq!(text, value);
        }
    }

    proptest! {
        #[test]
        fn a_date_stays_the_date_that_it_is(time in -300_000_000_000_i64..300_000_000_000_000) {
            if let Ok(()) = to_iso_8601(&mut Cow::Owned(time.to_string())) {
                let once = dated(&time.to_string());
                prop_assert_eq!(dated(&once), once);
            }
        }
    }
}
