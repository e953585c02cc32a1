//! Start and stop positions as typed by the user.

use std::fmt;
use std::str::FromStr;

use crate::shape;

/// A position in every partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pos {
    /// The log start offset.
    Beginning,
    /// Behind the last record.
    End,
    /// The group's committed offset.
    Committed,
    /// This offset.
    Offset(i64),
    /// This many offsets before the end.
    BeforeEnd(i64),
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
    /// As [`Self::Time`], this many milliseconds before now.
    Ago(i64),
}

/// The grammar of a position, for help and errors.
pub const GRAMMAR: &str =
    "beginning, end, committed, an offset, -N (N before the end), @UNIX seconds or milliseconds, @DATE or @RFC3339, @-1h";

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("end"),
            Self::Committed => f.write_str("committed offset"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::BeforeEnd(count) => write!(f, "{count} before the end"),
            Self::Time(time) => match jiff::Timestamp::from_millisecond(*time) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => write!(f, "@{time}"),
            },
            Self::Ago(ago) => {
                let ago = std::time::Duration::from_millis(ago.unsigned_abs());
                write!(f, "{} ago", humantime::format_duration(ago))
            }
        }
    }
}

impl FromStr for Pos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a position: use {GRAMMAR}");
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            "committed" => return Ok(Self::Committed),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return time_of(time).ok_or_else(wrong);
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.strip_prefix('-') {
            Some(count) if digits(count) => count.parse().map(Self::BeforeEnd).map_err(|_| wrong()),
            None if digits(text) => text.parse().map(Self::Offset).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

fn time_of(text: &str) -> Option<Pos> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = humantime::parse_duration(ago).ok()?;
        return i64::try_from(ago.as_millis()).ok().map(Pos::Ago);
    }
    if text.parse::<i128>().is_ok() {
        return shape::parse_time(text).map(|time| Pos::Time(time.as_millisecond()));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Pos::Time(time.as_millisecond()));
    }
    // A date, or a date and time without a zone, is in the zone of the machine.
    let local: jiff::civil::DateTime =
        text.parse().or_else(|_| text.parse::<jiff::civil::Date>().map(|date| date.at(0, 0, 0, 0))).ok()?;
    Some(Pos::Time(local.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp().as_millisecond()))
}

/// The facts that turn a position into an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub(crate) low: i64,
    /// The offset behind the last readable record.
    pub(crate) end: i64,
    pub(crate) committed: Option<i64>,
    /// The first offset at or after the position's time, if there is one.
    pub(crate) at_time: Option<i64>,
}

impl Pos {
    /// Returns the time to look up, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn time(self, now: i64) -> Option<i64> {
        match self {
            // To a broker, negative times have other meanings.
            Self::Time(time) => Some(time.max(0)),
            Self::Ago(ago) => Some(now.saturating_sub(ago).max(0)),
            _ => None,
        }
    }

    /// Returns whether this position is after `other` in every partition, at the time `now`. Others can be compared when they are
    /// resolved to offsets.
    #[must_use]
    pub(crate) fn is_after(self, other: Self, now: i64) -> bool {
        let time = |pos: Self| match pos {
            Self::Time(time) => Some(time),
            Self::Ago(ago) => Some(now.saturating_sub(ago)),
            _ => None,
        };
        if let Some((one, other)) = time(self).zip(time(other)) {
            return one > other;
        }
        match (self, other) {
            (Self::Offset(one), Self::Offset(other)) => one > other,
            (Self::BeforeEnd(one), Self::BeforeEnd(other)) => one < other,
            (Self::End, Self::BeforeEnd(count)) => count > 0,
            (Self::End, Self::Beginning) => true,
            _ => false,
        }
    }

    /// Returns the offset in a partition; [`Self::Committed`] without a commit is the beginning.
    ///
    /// # Errors
    /// When the partition does not have the offset.
    pub fn offset(self, bounds: &Bounds) -> Result<i64, String> {
        let Bounds { low, end, committed, at_time } = *bounds;
        match self {
            Self::Beginning => Ok(low),
            Self::End => Ok(end),
            Self::Committed => Ok(committed.unwrap_or(low)),
            Self::BeforeEnd(count) => Ok(end.saturating_sub(count).max(low)),
            Self::Time(_) | Self::Ago(_) => Ok(at_time.unwrap_or(end).min(end)),
            Self::Offset(offset) if (low..=end).contains(&offset) => Ok(offset),
            Self::Offset(offset) => Err(format!("offset {offset} is not between {low} and {end}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_position_is_shown_in_words() {
        for (pos, text) in [
            (Pos::Beginning, "beginning"),
            (Pos::Offset(7), "offset 7"),
            (Pos::BeforeEnd(3), "3 before the end"),
            (Pos::Time(1_893_456_000_000), "2030-01-01T00:00:00Z"),
            (Pos::Ago(3_600_000), "1h ago"),
        ] {
            assert_eq!(pos.to_string(), text);
        }
    }

    #[test]
    fn positions_are_read_as_they_are_typed() {
        for (text, pos) in [
            ("beginning", Pos::Beginning),
            ("end", Pos::End),
            ("committed", Pos::Committed),
            ("0", Pos::Offset(0)),
            ("42", Pos::Offset(42)),
            ("-10", Pos::BeforeEnd(10)),
            ("@1694479551", Pos::Time(1_694_479_551_000)),
            ("@1694479551123", Pos::Time(1_694_479_551_123)),
            ("@1694479551123456", Pos::Time(1_694_479_551_123)),
            ("@1694479551123456789", Pos::Time(1_694_479_551_123)),
            ("@0", Pos::Time(0)),
            ("@1969-12-31T23:59:59Z", Pos::Time(-1000)),
            ("@2023-09-12T00:45:51Z", Pos::Time(1_694_479_551_000)),
            ("@2023-09-12T02:45:51.5+02:00", Pos::Time(1_694_479_551_500)),
            ("@-1h", Pos::Ago(3_600_000)),
            ("@-1h 30m", Pos::Ago(5_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(pos), "{text}");
        }
        assert!(matches!("@2023-09-12".parse(), Ok(Pos::Time(_))));
        for text in [
            "",
            "start",
            "-",
            "--1",
            "1.5",
            "@",
            "@-",
            "@yesterday",
            "99999999999999999999",
            "+1",
            "-1h",
            "@20231115",
            "@99999999999999999999999",
        ] {
            assert!(text.parse::<Pos>().is_err(), "{text}");
        }
    }

    #[test]
    fn positions_resolve_to_offsets() {
        let bounds = Bounds { low: 10, end: 100, committed: Some(50), at_time: Some(70) };
        for (pos, offset) in [
            (Pos::Beginning, 10),
            (Pos::End, 100),
            (Pos::Committed, 50),
            (Pos::Offset(10), 10),
            (Pos::Offset(100), 100),
            (Pos::BeforeEnd(1), 99),
            (Pos::BeforeEnd(1000), 10),
            (Pos::Time(1), 70),
            (Pos::Ago(1), 70),
        ] {
            assert_eq!(pos.offset(&bounds), Ok(offset), "{pos:?}");
        }
        assert_eq!(Pos::Committed.offset(&Bounds { committed: None, ..bounds }), Ok(10));
        assert_eq!(Pos::Time(1).offset(&Bounds { at_time: None, ..bounds }), Ok(100), "nothing is that new");
        assert!(Pos::Offset(9).offset(&bounds).is_err());
        assert!(Pos::Offset(101).offset(&bounds).is_err());
        assert_eq!(Pos::Ago(1000).time(5000), Some(4000));
        assert_eq!(Pos::Ago(i64::MAX).time(5000), Some(0));
        assert_eq!(Pos::Time(-1000).time(5000), Some(0), "before 1970 is the beginning");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}", typed in "@?[-0-9a-zT:.+]{0,25}", low in any::<i64>(), end in any::<i64>()) {
            for text in [text, typed] {
                if let Ok(pos) = text.parse::<Pos>() {
                    prop_assert!(pos.time(1_694_479_551_000).is_none_or(|time| time >= 0));
                    let _ = pos.offset(&Bounds { low, end, committed: None, at_time: None });
                }
            }
        }

        #[test]
        fn a_resolved_offset_is_within_the_log(count in any::<i64>(), low in 0..1000_i64, size in 0..1000_i64) {
            let bounds = Bounds { low, end: low + size, committed: None, at_time: Some(count) };
            for pos in [Pos::BeforeEnd(count.saturating_abs()), Pos::Beginning, Pos::End, Pos::Committed, Pos::Offset(count)] {
                prop_assert!(pos.offset(&bounds).is_ok_and(|offset| (low..=low + size).contains(&offset)) || pos == Pos::Offset(count));
            }
        }
    }

    #[test]
    fn a_start_after_the_stop_is_detected() {
        for (start, stop) in [
            (Pos::Offset(9), Pos::Offset(8)),
            (Pos::Time(9), Pos::Time(8)),
            (Pos::BeforeEnd(8), Pos::BeforeEnd(9)),
            (Pos::Ago(8), Pos::Ago(9)),
            (Pos::Ago(100), Pos::Time(899)),
            (Pos::Time(901), Pos::Ago(100)),
            (Pos::End, Pos::Beginning),
            (Pos::End, Pos::BeforeEnd(1)),
        ] {
            assert!(start.is_after(stop, 1_000), "{start:?} {stop:?}");
            assert!(!stop.is_after(start, 1_000) && !start.is_after(start, 1_000), "{start:?} {stop:?}");
        }
        for (start, stop) in [
            (Pos::End, Pos::BeforeEnd(0)),
            (Pos::Ago(100), Pos::Time(900)),
            (Pos::Time(900), Pos::Ago(100)),
            (Pos::Offset(9), Pos::BeforeEnd(9)),
            (Pos::Committed, Pos::Offset(0)),
        ] {
            assert!(!start.is_after(stop, 1_000), "{start:?} {stop:?}");
        }
    }
}
