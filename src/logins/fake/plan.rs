//! The options of the generator.

use std::str::FromStr;
use std::time::Duration;

use crate::logins::event::FIELDS;
use crate::logins::fake::random::Fraction;
use crate::shape::parse_any_duration;

/// The options of the generator. The same plan gives the same bytes on every machine.
#[derive(Clone, Debug)]
pub struct FakePlan {
    pub(crate) seed: u64,
    /// The number of records; unlimited without.
    pub(crate) count: Option<u64>,
    /// The number of users, at least 1. A few of them log in often, most of them rarely.
    pub(crate) users: u64,
    pub(crate) key: RecordKey,
    /// Fields that are missing from a fraction of the events.
    pub(crate) missing: Vec<Missing>,
    pub(crate) malformed: Option<Malformed>,
    pub(crate) late: Option<LateEvents>,
    /// The fraction of records that are duplicated.
    pub(crate) duplicates: Fraction,
    pub(crate) timestamps: TimestampFormat,
    pub(crate) clock: Clock,
}

impl Default for FakePlan {
    fn default() -> Self {
        Self {
            seed: 0,
            count: None,
            users: 10_000,
            key: RecordKey::default(),
            missing: Vec::new(),
            malformed: None,
            late: None,
            duplicates: Fraction::default(),
            timestamps: TimestampFormat::default(),
            clock: Clock::Steps { start: Clock::START, step: Duration::from_millis(1) },
        }
    }
}

/// The source of event times.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The current time, in Unix seconds.
    Live(fn() -> i64),
    /// A simulated time that advances by `step` per event.
    Steps {
        /// In Unix seconds.
        start: i64,
        step: Duration,
    },
}

impl Clock {
    /// The default start: 2023-09-12T00:45:51Z.
    pub(crate) const START: i64 = 1_694_479_551;
}

/// The key of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecordKey {
    /// The user id, so that a user stays in one partition.
    #[default]
    UserId,
    DeviceId,
    /// 16 random hex digits.
    Random,
    /// No key.
    None,
}

/// The JSON type of the event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimestampFormat {
    #[default]
    Int,
    String,
}

/// A field that is missing from some events: `device_type=0.05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Index in [`FIELDS`].
    pub(super) field: usize,
    pub(super) fraction: Fraction,
}

impl FromStr for Missing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, fraction) = text.split_once('=').ok_or("write FIELD=FRACTION, as in device_type=0.05")?;
        let field = FIELDS.iter().position(|field| *field == name);
        let field = field.ok_or_else(|| format!("there is no field `{name}`: the fields are {}", FIELDS.join(", ")))?;
        Ok(Self { field, fraction: fraction.parse()? })
    }
}

/// Events that are late: `0.02:30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LateEvents {
    pub(super) fraction: Fraction,
    pub(super) seconds: i64,
}

impl FromStr for LateEvents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fraction, by) = text.split_once(':').ok_or("write FRACTION:DURATION, as in 0.02:30s")?;
        let by = parse_any_duration(by)?;
        let seconds = i64::try_from(by.as_secs()).ok().filter(|seconds| *seconds > 0);
        Ok(Self { fraction: fraction.parse()?, seconds: seconds.ok_or("events are late by whole seconds: 0.02:30s")? })
    }
}

/// Malformed values: `0.01`, or `0.01:truncated,null` for some kinds only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(super) fraction: Fraction,
    pub(super) kinds: Vec<Malformation>,
}

/// A kind of malformed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformation {
    /// Cut off in the middle.
    Truncated,
    /// Fields have other types: `user_id` is a number, `timestamp` is an object.
    WrongType,
    /// A field with bytes that are not UTF-8.
    NotUtf8,
    /// The event inside an array.
    Array,
    /// A field of 900,000 characters: below the usual limit of a broker of 1 MiB.
    Huge,
    /// A tombstone.
    Null,
}

impl Malformation {
    pub(super) const ALL: [(&'static str, Self); 6] = [
        ("truncated", Self::Truncated),
        ("wrong-type", Self::WrongType),
        ("not-utf8", Self::NotUtf8),
        ("array", Self::Array),
        ("huge", Self::Huge),
        ("null", Self::Null),
    ];
}

impl FromStr for Malformed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fraction, kinds) = text.split_once(':').map_or((text, None), |(fraction, kinds)| (fraction, Some(kinds)));
        let named = |name: &str| match Malformation::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, fault)) => Ok(*fault),
            None => Err(format!("`{name}` is not a kind: the kinds are {}", Malformation::ALL.map(|(name, _)| name).join(", "))),
        };
        let kinds = match kinds {
            Some(kinds) => kinds.split(',').map(named).collect::<Result<_, _>>()?,
            None => Malformation::ALL.map(|(_, fault)| fault).to_vec(),
        };
        Ok(Self { fraction: fraction.parse()?, kinds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong<T: FromStr<Err = String> + std::fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err()
    }

    #[test]
    fn an_invalid_option_shows_its_syntax() {
        assert_eq!(wrong::<Missing>("device_type"), "write FIELD=FRACTION, as in device_type=0.05");
        assert!(wrong::<Missing>("device=0.1").starts_with("there is no field `device`: the fields are user_id,"));
        assert_eq!(wrong::<Missing>("ip=5"), "`5` is not a fraction between 0 and 1, such as 0.01");
        assert_eq!(wrong::<LateEvents>("0.1"), "write FRACTION:DURATION, as in 0.02:30s");
        assert_eq!(wrong::<LateEvents>("0.1:5ms"), "events are late by whole seconds: 0.02:30s");
        for by in ["soon", "-5s", "30"] {
            let expected = "not a duration: use numbers with units, as in 500ms, 30s or 1h30m";
            assert_eq!(wrong::<LateEvents>(&format!("0.1:{by}")), expected, "{by}");
        }
        assert!(wrong::<Malformed>("0.1:torn").starts_with("`torn` is not a kind: the kinds are truncated, wrong-type,"));
    }

    #[test]
    fn malformed_means_every_kind_unless_some_are_named() {
        assert_eq!("0.5".parse::<Malformed>().unwrap().kinds.len(), 6);
        assert_eq!("0.5:null,huge".parse::<Malformed>().unwrap().kinds, [Malformation::Null, Malformation::Huge]);
    }
}
