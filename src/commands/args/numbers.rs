//! Numbers with their ranges.

use std::time::Duration;

pub(crate) use crate::shape::parse_any_duration;

/// The longest duration of a flag: deadlines are computed from it.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest `linger.ms` that librdkafka accepts.
const MAX_LINGER: Duration = Duration::from_secs(15 * 60);

/// Parses a number of records.
pub(crate) fn parse_count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a whole number is needed, such as 1000".to_owned())
}

/// Returns a parser of whole numbers of at least `low`, and at most `high`.
pub(crate) fn parse_whole<T: TryFrom<u64> + 'static>(
    low: u64,
    high: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text: &str| {
        let number = text.parse::<u64>().ok().filter(|number| (low..=high).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match high {
            u64::MAX => format!("a whole number of at least {low} is needed"),
            _ => format!("a whole number from {low} to {high} is needed"),
        })
    }
}

/// Parses a duration of at most a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_any_duration(text)?;
    if duration > MAX_DURATION { Err("at most 366d".to_owned()) } else { Ok(duration) }
}

/// Parses a duration of 1 ms to a year.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < Duration::from_millis(1) { Err("at least 1ms".to_owned()) } else { Ok(duration) }
}

/// Parses how long a batch of the Kafka producer may wait to fill.
pub(crate) fn parse_linger(text: &str) -> Result<Duration, String> {
    let linger = parse_duration(text)?;
    if linger > MAX_LINGER { Err("at most 15m: the Kafka producer accepts no longer time".to_owned()) } else { Ok(linger) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_duration_or_count_is_refused_with_an_example() {
        assert_eq!(parse_count("1000"), Ok(1000));
        for text in ["forever", "ten", "7", "7 parsecs", "-5s", "", "m", "5 m s"] {
            assert_eq!(
                parse_duration(text).unwrap_err(),
                "not a duration: use numbers with units, as in 500ms, 30s or 1h30m",
                "{text}"
            );
        }
        for text in ["1k", "-5", "many", ""] {
            assert_eq!(parse_count(text).unwrap_err(), "a whole number is needed, such as 1000", "{text}");
        }
    }

    #[test]
    fn a_whole_number_outside_its_range_is_refused() {
        let batch = parse_whole::<u32>(1, 1_000_000);
        assert_eq!(batch("1000000"), Ok(1_000_000));
        for text in ["0", "1000001", "many", "-1", "1.5", "", "99999999999999999999"] {
            assert_eq!(batch(text).unwrap_err(), "a whole number from 1 to 1000000 is needed", "{text}");
        }
        let interval = parse_whole::<u64>(1, u64::MAX);
        assert_eq!(interval("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(interval("0").unwrap_err(), "a whole number of at least 1 is needed");
    }

    #[test]
    fn a_duration_has_a_range() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("366d"), Ok(MAX_DURATION));
        for text in ["", "5", "-1s", "367d", "584542046090y", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_interval("1ms"), Ok(Duration::from_millis(1)));
        assert!(parse_interval("0s").is_err() && parse_interval("1us").is_err() && parse_interval("1000y").is_err());
        assert_eq!((parse_linger("0s"), parse_linger("15m")), (Ok(Duration::ZERO), Ok(MAX_LINGER)));
        assert_eq!(parse_linger("900001ms").unwrap_err(), "at most 15m: the Kafka producer accepts no longer time");
    }
}
