//! Flags of delivery and bad records.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::args::numbers::{parse_duration, parse_interval, parse_whole};
use crate::pipeline::{BadRecordPolicy, BreakerLimit, Limits, Rate};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Delivery")]
pub(crate) struct DeliveryArgs {
    /// Records per batch [default: 1000 for replicate, 5000 for the sinks]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>(1, 1_000_000))]
    batch: Option<u32>,
    /// Bytes per batch [default: 1MB for replicate, 8MB for the sinks]
    #[arg(long, value_name = "SIZE", value_parser = parse_batch_bytes)]
    batch_bytes: Option<u64>,
    /// How long a batch waits to fill [default: 5ms for replicate, 500ms for the sinks]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// Batches in flight [default: 16 for replicate, 4 for the sinks]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>(1, 1000))]
    in_flight: Option<u32>,
    /// Time between two commits of the delivered positions
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = parse_interval)]
    commit_interval: Duration,
    /// Deliver one record at a time, and wait for the broker to confirm its commit before the next: slow
    #[arg(long)]
    commit_each: bool,
    #[command(flatten)]
    pub(crate) failure: FailureArgs,
}

/// Rate, deadlines and bad records: the flags that every moving command has.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Delivery")]
pub(crate) struct FailureArgs {
    /// Maximum rate: 5000 (records per second) or 5MB (bytes per second)
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) rate: Option<Rate>,
    /// Fail if nothing could be delivered for this long; without it an outage is waited out
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retry_for: Option<Duration>,
    /// Deadline for the first answer of a server
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) wait: Duration,
    /// Where bad records go: topic:NAME, topic:SECTION/NAME or file:PATH; without it the run stops at the first
    #[arg(long, value_name = "WHERE", value_parser = parse_dead_letters)]
    pub(crate) dead_letters: Option<DeadLetterTarget>,
    /// Leave bad records out, and count them
    #[arg(long, conflicts_with = "dead_letters")]
    skip_bad_records: bool,
    /// Stop if more records than this are bad in this time; `none` for no limit
    #[arg(long, value_name = "N/DURATION", default_value = "1000/1m", value_parser = parse_limit)]
    pub(crate) dead_letter_limit: DeadLetterLimit,
    /// How long to wait at the end for batches in flight
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    pub(crate) shutdown_timeout: Duration,
}

/// Batch sizes of a kind of destination, for flags that are not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchDefaults {
    pub(crate) batch: u32,
    pub(crate) batch_bytes: u64,
    pub(crate) linger: Duration,
    pub(crate) in_flight: u32,
    /// Whether the engine waits for a batch to fill; the Kafka producer does that itself.
    pub(crate) engine_lingers: bool,
}

/// For a Kafka cluster, whose client makes batches of its own.
pub(crate) const KAFKA_DEFAULTS: BatchDefaults =
    BatchDefaults { batch: 1000, batch_bytes: 1_000_000, linger: Duration::from_millis(5), in_flight: 16, engine_lingers: false };

/// For a server that stores documents: a request is expensive, and the engine makes the batches.
pub(crate) const DOCUMENT_DEFAULTS: BatchDefaults =
    BatchDefaults { batch: 5000, batch_bytes: 8_000_000, linger: Duration::from_millis(500), in_flight: 4, engine_lingers: true };

/// Sizes and times of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceLimits {
    /// Records in a batch.
    pub(crate) batch: usize,
    /// Bytes that may wait for the engine.
    pub(crate) buffer_bytes: usize,
    /// None: the target commits the offsets.
    pub(crate) commit_interval: Option<Duration>,
}

impl DeliveryArgs {
    /// Returns how long the destination's client waits for a batch to fill.
    pub(crate) fn linger(&self, defaults: &BatchDefaults) -> Duration {
        self.linger.unwrap_or(defaults.linger)
    }

    pub(crate) fn limits(&self, defaults: &BatchDefaults, count: Option<u64>) -> Limits {
        Limits {
            batch_bytes: usize::try_from(self.batch_bytes.unwrap_or(defaults.batch_bytes)).unwrap_or(usize::MAX),
            linger: if defaults.engine_lingers { self.linger(defaults) } else { Duration::ZERO },
            in_flight: self.in_flight.unwrap_or(defaults.in_flight) as usize,
            commit_each: self.commit_each,
            ..self.failure.limits(self.batch.unwrap_or(defaults.batch) as usize, count)
        }
    }

    pub(crate) fn source_limits(&self, limits: &Limits) -> SourceLimits {
        SourceLimits {
            batch: limits.batch.min(10_000),
            buffer_bytes: limits.batch_bytes.saturating_mul(4).min(16_000_000),
            commit_interval: Some(self.commit_interval),
        }
    }
}

impl FailureArgs {
    /// Returns the limits of a flow that settles one batch at a time.
    pub(crate) fn limits(&self, batch: usize, count: Option<u64>) -> Limits {
        Limits {
            batch,
            batch_bytes: usize::MAX,
            linger: Duration::ZERO,
            in_flight: 1,
            rate: self.rate,
            count,
            commit_each: false,
            retry_for: self.retry_for,
            breaker: self.dead_letter_limit.0,
            shutdown_timeout: self.shutdown_timeout,
        }
    }

    pub(crate) fn bad_records(&self) -> BadRecordPolicy {
        match (&self.dead_letters, self.skip_bad_records) {
            (Some(_), _) => BadRecordPolicy::DeadLetters,
            (None, true) => BadRecordPolicy::Skip,
            (None, false) => BadRecordPolicy::Stop,
        }
    }
}

/// Where dead letters go, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeadLetterTarget {
    /// Without a section: of the command's usual cluster.
    Topic {
        section: Option<String>,
        name: String,
    },
    File(PathBuf),
}

/// Parses a place of dead letters: `topic:NAME`, `topic:SECTION/NAME` or `file:PATH`.
pub(crate) fn parse_dead_letters(text: &str) -> Result<DeadLetterTarget, String> {
    match text.split_once(':') {
        Some(("topic", name)) if !name.is_empty() => Ok(match name.split_once('/') {
            Some((section, name)) => DeadLetterTarget::Topic { section: Some(section.to_owned()), name: name.to_owned() },
            None => DeadLetterTarget::Topic { section: None, name: name.to_owned() },
        }),
        Some(("file", path)) if !path.is_empty() => Ok(DeadLetterTarget::File(path.into())),
        _ => Err("use topic:NAME, topic:SECTION/NAME or file:PATH".to_owned()),
    }
}

/// The value of `--dead-letter-limit`; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterLimit(pub(crate) Option<BreakerLimit>);

fn parse_limit(text: &str) -> Result<DeadLetterLimit, String> {
    if text == "none" {
        return Ok(DeadLetterLimit(None));
    }
    let parsed = text.split_once('/').and_then(|(records, within)| {
        Some(BreakerLimit { records: records.parse().ok()?, within: parse_interval(within).ok()? })
    });
    parsed.map(|limit| DeadLetterLimit(Some(limit))).ok_or_else(|| "use N/DURATION, as in 1000/1m, or none".to_owned())
}

/// Parses a size in bytes: `500`, `64kB`, `8MB`, `1GB` (powers of 1000), `64KiB`, `8MiB` (powers of 1024), in any case.
fn parse_size(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| "not a size: use bytes, kB, MB, GB, KiB, MiB or GiB, as in 8MB".to_owned())
}

/// Parses a batch size: at most 1 GB, so that all batches in flight can be counted.
fn parse_batch_bytes(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("at least 1 byte".to_owned()),
        bytes if bytes > 1_000_000_000 => Err("at most 1GB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Parses a rate: a bare number is records per second, a size bytes per second; `/s` may follow.
#[allow(clippy::cast_precision_loss)] // a rate
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    let bare = text.strip_suffix("/s").unwrap_or(text);
    let invalid = || "not a rate: use records per second, as in 5000, or bytes per second, as in 5MB".to_owned();
    if let Ok(records) = bare.parse::<f64>() {
        return match records {
            0.001..=1e9 => Ok(Rate::Records(records)),
            _ if records.is_finite() => Err("a rate is 0.001 to 1000000000 records per second".to_owned()),
            _ => Err(invalid()),
        };
    }
    match parse_size(bare) {
        Ok(0) => Err("a rate is at least 1 byte per second".to_owned()),
        Ok(bytes) => Ok(Rate::Bytes(bytes as f64)),
        Err(_) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_with_their_units() {
        for (text, bytes) in [
            ("500", 500),
            ("64kB", 64_000),
            ("5kb", 5000),
            ("5mb", 5_000_000),
            ("8M", 8_000_000),
            ("8MB", 8_000_000),
            ("1GB", 1_000_000_000),
            ("2MiB", 2 << 20),
            ("2mib", 2 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "1.5MB", "5 parsecs", "-1", "99999999999GB"] {
            assert!(parse_size(text).unwrap_err().starts_with("not a size: use bytes, kB, MB, GB,"), "{text}");
        }
        assert_eq!(parse_batch_bytes("0").unwrap_err(), "at least 1 byte");
        assert_eq!(parse_batch_bytes("2GB").unwrap_err(), "at most 1GB");
        assert_eq!(parse_rate("5000"), Ok(Rate::Records(5000.0)));
        assert_eq!(parse_rate("0.5/s"), Ok(Rate::Records(0.5)));
        assert_eq!(parse_rate("5MB"), Ok(Rate::Bytes(5e6)));
        for text in ["", "0", "-1", "fast", "inf", "1e-300", "1e300", "NaN"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert_eq!(parse_rate("0").unwrap_err(), "a rate is 0.001 to 1000000000 records per second");
        assert_eq!(parse_rate("0MB").unwrap_err(), "a rate is at least 1 byte per second");
    }

    #[test]
    fn dead_letters_and_their_limit_are_read_as_typed() {
        let topic =
            |section: Option<&str>, name: &str| DeadLetterTarget::Topic { section: section.map(Into::into), name: name.into() };
        assert_eq!(parse_dead_letters("topic:bad"), Ok(topic(None, "bad")));
        assert_eq!(parse_dead_letters("topic:remote_kafka/bad"), Ok(topic(Some("remote_kafka"), "bad")));
        assert_eq!(parse_dead_letters("file:/tmp/a:b"), Ok(DeadLetterTarget::File("/tmp/a:b".into())));
        assert!(
            parse_dead_letters("bad").is_err() && parse_dead_letters("topic:").is_err() && parse_dead_letters("file:").is_err()
        );
        let limit = BreakerLimit { records: 10, within: Duration::from_secs(90) };
        assert_eq!(parse_limit("10/1m 30s"), Ok(DeadLetterLimit(Some(limit))));
        assert_eq!(parse_limit("none"), Ok(DeadLetterLimit(None)));
        for text in ["10", "x/1m", "-1/1m", "10/0s", "10/584542046090y", "99999999999999999999/1m"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }
}
