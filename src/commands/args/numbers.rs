//! Numbers with their ranges.

use std::time::Duration;

/// The longest duration of a flag: deadlines are computed from it.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses a duration of at most a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string().replace("5sec", "5s"))?;
    if duration > MAX_DURATION { Err("at most 366d".to_owned()) } else { Ok(duration) }
}

/// Parses a duration of 1 ms to a year.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < Duration::from_millis(1) { Err("at least 1ms".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
