//! What is asked of the generator.

use std::str::FromStr;
use std::time::Duration;

use crate::logins::event::FIELDS;
use crate::logins::fake::random::Fraction;

/// What the logins are like. The same plan gives the same bytes, on every machine.
#[derive(Clone, Debug)]
pub struct FakePlan {
    /// What the random numbers follow from.
    pub seed: u64,
    /// How many records there are; no end without.
    pub count: Option<u64>,
    /// How many users log in, at least 1. A few of them do so often, most seldom.
    pub users: u64,
    /// What records are keyed by.
    pub key: Key,
    /// Fields that are left out of so many events.
    pub missing: Vec<Missing>,
    /// How many values are broken, and how.
    pub malformed: Option<Malformed>,
    /// How many events carry a time that is past.
    pub late: Option<Late>,
    /// How many records are followed by themselves once more.
    pub duplicates: Fraction,
    /// How the time is written.
    pub timestamps: Timestamps,
    /// Which time it is.
    pub clock: Clock,
}

impl Default for FakePlan {
    fn default() -> Self {
        Self {
            seed: 0,
            count: None,
            users: 10_000,
            key: Key::default(),
            missing: Vec::new(),
            malformed: None,
            late: None,
            duplicates: Fraction::default(),
            timestamps: Timestamps::default(),
            clock: Clock::Steps { start: Clock::START, step: Duration::from_millis(1) },
        }
    }
}

/// Where events have their time from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The time at which they are made, in Unix seconds.
    Live(fn() -> i64),
    /// A time that goes on by `step` from event to event, whatever the clock on the wall says.
    Steps {
        /// The first event's time, in Unix seconds.
        start: i64,
        /// From one event to the next.
        step: Duration,
    },
}

impl Clock {
    /// Where steps start when nobody says: 2023-09-12T00:45:51Z.
    pub const START: i64 = 1_694_479_551;
}

/// What records are keyed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// The user, who thereby keeps to one partition.
    #[default]
    UserId,
    /// The device.
    DeviceId,
    /// 16 random hex digits.
    Random,
    /// No key.
    None,
}

/// How the event's time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// As a number.
    #[default]
    Int,
    /// As text.
    String,
}

/// A field that is missing from some events: `device_type=0.05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The field's place in [`FIELDS`].
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
pub struct Late {
    pub(super) fraction: Fraction,
    pub(super) seconds: i64,
}

impl FromStr for Late {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fraction, by) = text.split_once(':').ok_or("write FRACTION:DURATION, as in 0.02:30s")?;
        let by = humantime::parse_duration(by).map_err(|error| format!("`{by}` is no duration: {error}"))?;
        let seconds = i64::try_from(by.as_secs()).ok().filter(|seconds| *seconds > 0);
        Ok(Self { fraction: fraction.parse()?, seconds: seconds.ok_or("events are late by whole seconds: 0.02:30s")? })
    }
}

/// Values that are broken: `0.01`, or `0.01:truncated,null` for some kinds only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub(super) fraction: Fraction,
    pub(super) kinds: Vec<Malformation>,
}

/// How a value is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformation {
    /// It ends in the middle.
    Truncated,
    /// Fields have other types: `user_id` is a number, `timestamp` is an object.
    WrongType,
    /// A field holds bytes that are not UTF-8.
    NotUtf8,
    /// The event is in an array.
    Array,
    /// A field holds 900,000 characters: below a broker's usual limit of 1 MiB, far above any other event.
    Huge,
    /// There is none: a tombstone.
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
            None => Err(format!("`{name}` is no kind: the kinds are {}", Malformation::ALL.map(|(name, _)| name).join(", "))),
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
    fn a_wrong_option_says_how_it_is_written() {
        assert_eq!(wrong::<Missing>("device_type"), "write FIELD=FRACTION, as in device_type=0.05");
        assert!(wrong::<Missing>("device=0.1").starts_with("there is no field `device`: the fields are user_id,"));
        assert_eq!(wrong::<Missing>("ip=5"), "`5` is no fraction between 0 and 1, as 0.01 is");
        assert_eq!(wrong::<Late>("0.1"), "write FRACTION:DURATION, as in 0.02:30s");
        assert_eq!(wrong::<Late>("0.1:5ms"), "events are late by whole seconds: 0.02:30s");
        assert!(wrong::<Late>("0.1:soon").starts_with("`soon` is no duration"));
        assert!(wrong::<Malformed>("0.1:torn").starts_with("`torn` is no kind: the kinds are truncated, wrong-type,"));
    }

    #[test]
    fn malformed_means_every_kind_unless_some_are_named() {
        assert_eq!("0.5".parse::<Malformed>().unwrap().kinds.len(), 6);
        assert_eq!("0.5:null,huge".parse::<Malformed>().unwrap().kinds, [Malformation::Null, Malformation::Huge]);
    }
}
