//! Times in JSON values: `date`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::{SignedDuration, Timestamp};

use crate::shape::decimal::Decimal;
use crate::shape::document::{json_string, plain_text};

/// The formats that [`parse_time`] knows, for hints.
pub(super) const FORMATS: &str = "a date is a number of Unix seconds, milliseconds, microseconds or nanoseconds, or ISO 8601 text such as 2023-09-12T00:45:51Z";

/// Parses a duration of any length: `500ms`, `30s`, `1h30m`.
///
/// # Errors
/// With the form that is expected.
pub(crate) fn parse_any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => "the duration is too long or too precise".to_owned(),
        _ => "not a duration: use numbers with units, as in 500ms, 30s or 1h30m".to_owned(),
    })
}

/// A time in UTC, from the year -9999 to the end of the year 9999 (the range of [`Timestamp`] ends a day earlier).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtcTime(DateTime);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl UtcTime {
    fn from_nanoseconds(nanoseconds: i128) -> Option<Self> {
        let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
        let rest = i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
        EPOCH.checked_add(SignedDuration::new(seconds, rest)).ok().map(Self)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub(crate) fn as_millisecond(self) -> i64 {
        let passed = self.0.duration_since(EPOCH);
        // Rounded down, also before 1970.
        passed.as_secs() * 1000 + i64::from(passed.subsec_nanos()).div_euclid(1_000_000)
    }
}

impl From<Timestamp> for UtcTime {
    fn from(time: Timestamp) -> Self {
        Self(jiff::tz::Offset::UTC.to_datetime(time))
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.0)
    }
}

/// Replaces a time by ISO 8601 in UTC: `2023-09-12T00:45:51Z`. Null stays null.
///
/// # Errors
/// When the value is not a time that [`parse_time`] knows.
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

/// Parses a JSON value as a time: a Unix time, as a number or a string, or a date with or without time and zone; without a zone it
/// is UTC. The unit of a Unix time follows from its size, and no unit reaches beyond the year 9999.
pub(crate) fn parse_time(value: &str) -> Option<UtcTime> {
    if value.starts_with(['[', '{']) {
        return None;
    }
    let text = plain_text(value);
    let text = text.trim();
    match Decimal::parse(text) {
        Some(_) if is_compact_date(text) => None,
        Some(number) => UtcTime::from_nanoseconds(number.scaled(decimal_places(&number))?),
        None => iso_8601(text),
    }
}

/// Returns the decimal places from the number to nanoseconds.
///
/// Seconds end in the year 5138, from there on a number is milliseconds since March 1973. Milliseconds and microseconds end with the
/// year 9999, from there on a number is the next smaller unit since January 1978. The last second of the year 9999 is taken for
/// seconds: it stands for "for ever" in business data.
fn decimal_places(number: &Decimal) -> i64 {
    let magnitude = number.scaled(0).map_or(u128::MAX, i128::unsigned_abs);
    match magnitude {
        0..100_000_000_000 | 253_402_300_799 => 9,
        100_000_000_000..253_402_300_800_000 => 6,
        253_402_300_800_000..253_402_300_800_000_000 => 3,
        _ => 0,
    }
}

/// Returns whether the digits are `YYYYMMDD` or `YYYYMMDDhhmmss`: as a Unix time they would be a day in 1970 or in the year 2600.
fn is_compact_date(text: &str) -> bool {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let within = |range: std::ops::Range<usize>, low: u32, high: u32| {
        text[range].parse::<u32>().is_ok_and(|number| (low..=high).contains(&number))
    };
    is_digits
        && matches!(text.len(), 8 | 14)
        && within(0..4, 1900, 2099)
        && within(4..6, 1, 12)
        && within(6..8, 1, 31)
        && (text.len() == 8 || within(8..10, 0, 23) && within(10..12, 0, 59) && within(12..14, 0, 59))
}

fn iso_8601(text: &str) -> Option<UtcTime> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.into());
    }
    // A local time, or one on the last day of the year 9999, which a timestamp cannot hold.
    let pieces = Pieces::parse(text).ok()?;
    if pieces.time_zone_annotation().is_some() {
        return None;
    }
    let local = pieces.date().to_datetime(pieces.time().unwrap_or_else(Time::midnight));
    let seconds = match pieces.offset() {
        None | Some(PiecesOffset::Zulu) => 0,
        Some(PiecesOffset::Numeric(offset)) => offset.offset().seconds(),
        Some(_) => return None,
    };
    local.checked_sub(SignedDuration::from_secs(seconds.into())).ok().map(UtcTime)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dated(value: &str) -> String {
        let mut value = Cow::Borrowed(value);
        to_iso_8601(&mut value).unwrap_or_else(|()| panic!("{value}"));
        value.into_owned()
    }

    #[test]
    fn every_time_notation_becomes_iso_8601() {
        for (time, date) in [
            ("1694479551", "2023-09-12T00:45:51Z"),
            ("\"1694479551\"", "2023-09-12T00:45:51Z"),
            ("1694479551123", "2023-09-12T00:45:51.123Z"),
            ("\"1694479551000\"", "2023-09-12T00:45:51Z"),
            ("1694479551.25", "2023-09-12T00:45:51.25Z"),
            ("1.694479551e9", "2023-09-12T00:45:51Z"),
            ("1569263647123456", "2019-09-23T18:34:07.123456Z"),
            ("1569263647123456789", "2019-09-23T18:34:07.123456789Z"),
            ("\"1569263647123456\"", "2019-09-23T18:34:07.123456Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("-1.5", "1969-12-31T23:59:58.5Z"),
            ("-1569263647", "1920-04-10T05:25:53Z"),
            ("-1569263647123", "1920-04-10T05:25:52.877Z"),
            ("-1569263647123456", "1920-04-10T05:25:52.876544Z"),
            ("99999999999", "5138-11-16T09:46:39Z"),
            ("100000000000", "1973-03-03T09:46:40Z"),
            ("253402300799", "9999-12-31T23:59:59Z"),
            ("253402300799000", "9999-12-31T23:59:59Z"),
            ("253402300799999", "9999-12-31T23:59:59.999Z"),
            ("\"9999-12-31T23:59:59Z\"", "9999-12-31T23:59:59Z"),
            ("\"9999-12-31T23:59:59.999999+02:00\"", "9999-12-31T21:59:59.999999Z"),
            ("\"9999-12-31\"", "9999-12-31T00:00:00Z"),
            ("\"0001-01-01T00:00:00Z\"", "0001-01-01T00:00:00Z"),
            ("\"1900-01-01T00:00:00Z\"", "1900-01-01T00:00:00Z"),
            ("\"2023-09-12T02:45:51+02:00\"", "2023-09-12T00:45:51Z"),
            ("\"2018-10-01T17:17:04.117+0000\"", "2018-10-01T17:17:04.117Z"),
            ("\"2019-09-23T20:34:07+02\"", "2019-09-23T18:34:07Z"),
            ("\"2023-09-12T00:45:51Z\"", "2023-09-12T00:45:51Z"),
            ("\"2023-09-12 00:45:51.5\"", "2023-09-12T00:45:51.5Z"),
            ("\"2023-09-12\"", "2023-09-12T00:00:00Z"),
        ] {
            assert_eq!(dated(time), format!("\"{date}\""), "{time}");
        }
        assert_eq!(dated("null"), "null");
    }

    #[test]
    fn a_value_that_is_not_a_time_is_refused() {
        for value in [
            "\"yesterday\"",
            "\"\"",
            "true",
            "{}",
            "[2019,9,23,18,34,7]",
            "[1694479551]",
            "-1e21",
            "1e30",
            "1e300",
            "1e400",
            "-1e400",
            "\"2023-13-01\"",
            "\"12:30\"",
            "\"9999-12-31T23:59:59-02:00\"",
            "20190923",
            "\"20190923183407\"",
        ] {
            let mut text = Cow::Borrowed(value);
            assert_eq!(to_iso_8601(&mut text), Err(()), "{value}");
            assert_eq!(text, value);
        }
    }

    #[test]
    fn milliseconds_are_rounded_down_on_both_sides_of_1970() {
        for (time, milliseconds) in [
            ("1694479551.9999", 1_694_479_551_999),
            ("-0.0001", -1),
            ("-1", -1000),
            ("253402300799000", 253_402_300_799_000),
            ("\"9999-12-31T23:59:59.999Z\"", 253_402_300_799_999),
            ("\"1969-12-31T23:59:59.999Z\"", -1),
        ] {
            assert_eq!(parse_time(time).unwrap().as_millisecond(), milliseconds, "{time}");
        }
    }

    proptest! {
        #[test]
        fn a_date_is_unchanged(time in -300_000_000_000_i64..300_000_000_000_000) {
            if let Ok(()) = to_iso_8601(&mut Cow::Owned(time.to_string())) {
                let once = dated(&time.to_string());
                prop_assert_eq!(dated(&once), once);
            }
        }

        #[test]
        fn a_recent_time_is_the_same_in_every_unit(seconds in 254_000_000_i64..10_000_000_000) {
            let expected = dated(&seconds.to_string());
            for unit in ["000", "000000", "000000000"] {
                let scaled = format!("{seconds}{unit}");
                if scaled.parse::<i128>().unwrap() < 9_000_000_000_000_000_000 {
                    prop_assert_eq!(dated(&scaled), expected.clone(), "{}", scaled);
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}", digits in "[-0-9eE.:TZ+ ]{0,30}") {
            for text in [text, digits] {
                let _ = parse_time(&text);
                let _ = parse_time(&json_string(&text));
            }
        }
    }
}
