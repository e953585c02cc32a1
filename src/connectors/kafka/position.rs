//! Start and stop positions as typed by the user.

use std::str::FromStr;

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
    if let Ok(number) = text.parse::<i64>() {
        // Seconds until the year 5138, milliseconds from 1973 on.
        return Some(Pos::Time(if number < 100_000_000_000 { number.checked_mul(1000)? } else { number }));
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
            Self::Time(time) => Some(time),
            Self::Ago(ago) => Some(now.saturating_sub(ago)),
            _ => None,
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
            Self::Offset(offset) => Err(format!("offset {offset} is not in {low}..{end}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("@2023-09-12T00:45:51Z", Pos::Time(1_694_479_551_000)),
            ("@2023-09-12T02:45:51.5+02:00", Pos::Time(1_694_479_551_500)),
            ("@-1h", Pos::Ago(3_600_000)),
            ("@-1h 30m", Pos::Ago(5_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(pos), "{text}");
        }
        assert!(matches!("@2023-09-12".parse(), Ok(Pos::Time(_))));
        for text in ["", "start", "-", "--1", "1.5", "@", "@-", "@yesterday", "99999999999999999999", "+1", "-1h"] {
            assert!(text.parse::<Pos>().is_err(), "{text}");
        }
    }

    #[test]
    fn positions_lead_to_offsets() {
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
    }
}
