//! The flags that say how records are delivered and where bad ones go, and the run of what was put together.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::Context;
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::select::ReadArgs;
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, Targets, TopicLimits, TopicPlan};
use crate::connectors::ndjson::DeadLetterFile;
use crate::error::Error;
use crate::pipeline::{
    Answers, BadRecordPolicy, Batch, BreakerLimit, ConnectorError, DeadLetterBuilder, DeadLetterCause, DeadLetters, FailureStage,
    Limits, Ordering, Pipeline, Rate, Refused, Sink, Source, Transform, dead_letter,
};
use crate::profile::{KafkaSection, Profile};
use crate::record::Topic;
use crate::report::RunInfo;

/// Flags that say how records are delivered.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How it is delivered")]
pub struct DeliveryArgs {
    /// Records in a batch [default: 1000 for replicate, 5000 for the sinks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: Option<u32>,
    /// Bytes in a batch [default: 1MB for replicate, 8MB for the sinks]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub batch_bytes: Option<u64>,
    /// How long a batch waits to fill [default: 5ms for replicate, 500ms for the sinks]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub linger: Option<Duration>,
    /// Batches in flight [default: 16 for replicate, 4 for the sinks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: Option<u32>,
    /// How often the positions of what was delivered are committed
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    pub commit_interval: Duration,
    /// One record at a time, its commit confirmed by the broker before the next: slow, and literal
    #[arg(long)]
    pub commit_each: bool,
    /// How it is done with care.
    #[command(flatten)]
    pub care: FailureArgs,
}

/// Flags that say how fast it goes, how long is waited, and what becomes of bad records.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "How it is delivered")]
pub struct FailureArgs {
    /// Read at most so fast: 5000 (records a second) or 5MB (bytes a second)
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate: Option<Rate>,
    /// Fail when nothing could be delivered for so long; without it an outage is waited out
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub retry_for: Option<Duration>,
    /// How long to wait for the first answer of a server
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// Where bad records go: topic:NAME, topic:SECTION/NAME or file:PATH; without it the run stops at the first
    #[arg(long, value_name = "WHERE", value_parser = dead_letter_target)]
    pub dead_letters: Option<DeadLetterTarget>,
    /// Leave bad records out; they are counted
    #[arg(long, conflicts_with = "dead_letters")]
    pub skip_bad_records: bool,
    /// Stop when more records than that are bad in that time; `none` for no limit
    #[arg(long, value_name = "N/DURATION", default_value = "1000/1m", value_parser = breaker)]
    pub dead_letter_limit: DeadLetterLimit,
    /// How long to wait at the end for what is in flight
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = humantime::parse_duration)]
    pub shutdown_timeout: Duration,
}

/// What batches are like when nothing is said: each kind of destination has its own.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Records in a batch.
    pub batch: u32,
    /// Bytes in a batch.
    pub batch_bytes: u64,
    /// How long a batch waits to fill.
    pub linger: Duration,
    /// Batches in flight.
    pub in_flight: u32,
}

/// For a Kafka cluster, whose client makes batches of its own.
pub const KAFKA: Defaults = Defaults { batch: 1000, batch_bytes: 1_000_000, linger: Duration::from_millis(5), in_flight: 16 };

/// For a server that stores documents: a call to it is dear, and the engine makes the batches.
pub const DOCUMENTS: Defaults =
    Defaults { batch: 5000, batch_bytes: 8_000_000, linger: Duration::from_millis(500), in_flight: 4 };

/// What a source must know of the limits.
#[derive(Clone, Copy, Debug)]
pub struct SourceLimits {
    /// Records in a batch.
    pub batch: usize,
    /// Bytes that may wait to be taken.
    pub buffer_bytes: usize,
    /// How often commits are sent.
    pub commit_interval: Duration,
}

impl DeliveryArgs {
    /// Returns how long the destination's client may wait for a batch to fill.
    #[must_use]
    pub fn linger(&self, defaults: &Defaults) -> Duration {
        self.linger.unwrap_or(defaults.linger)
    }

    /// Returns the limits of the engine. `engine_lingers` says that the engine makes the batches, not the destination's client.
    #[must_use]
    pub fn limits(&self, defaults: &Defaults, engine_lingers: bool, count: Option<u64>) -> Limits {
        Limits {
            batch: self.batch.unwrap_or(defaults.batch) as usize,
            batch_bytes: usize::try_from(self.batch_bytes.unwrap_or(defaults.batch_bytes)).unwrap_or(usize::MAX),
            linger: if engine_lingers { self.linger(defaults) } else { Duration::ZERO },
            in_flight: self.in_flight.unwrap_or(defaults.in_flight) as usize,
            rate: self.care.rate,
            count,
            commit_each: self.commit_each,
            retry_for: self.care.retry_for,
            breaker: self.care.dead_letter_limit.0,
            shutdown_timeout: self.care.shutdown_timeout,
        }
    }

    /// Returns the limits of the source.
    #[must_use]
    pub fn source_limits(&self, limits: &Limits) -> SourceLimits {
        SourceLimits {
            batch: limits.batch.min(10_000),
            buffer_bytes: (limits.batch_bytes * 4).min(16_000_000),
            commit_interval: self.commit_interval,
        }
    }
}

impl FailureArgs {
    /// Returns what happens to bad records.
    #[must_use]
    pub fn bad_records(&self) -> BadRecordPolicy {
        match (&self.dead_letters, self.skip_bad_records) {
            (Some(_), _) => BadRecordPolicy::DeadLetters,
            (None, true) => BadRecordPolicy::Skip,
            (None, false) => BadRecordPolicy::Stop,
        }
    }

    /// Opens the destination of dead letters, if one is named; a topic without a section is one of `home`.
    ///
    /// # Errors
    /// When it cannot be opened, or the topic cannot be created.
    pub async fn open_dead_letters(
        &self,
        profile: &Profile,
        home: &KafkaSection,
        run: &str,
        create: bool,
    ) -> Result<Option<DeadLetters<DeadLetterSink>>, Error> {
        let sink = match &self.dead_letters {
            None => return Ok(None),
            Some(DeadLetterTarget::File(path)) => DeadLetterSink::File(DeadLetterFile::open(path)?),
            Some(DeadLetterTarget::Topic { section, name }) => {
                let section = section.as_deref().map_or_else(|| Ok(home.clone()), |name| profile.kafka(name))?;
                let admin = Admin::connect(&section, self.wait).await?;
                if admin.topic(name).await?.is_none() {
                    if !create {
                        return Err(Error::Refused(Refused {
                            what: format!(
                                "the dead-letter topic `{name}` is not on `{}`, and may not be created (--no-create)",
                                section.name
                            ),
                            numbers: Vec::new(),
                            hint: "create it, or leave --no-create out".to_owned(),
                        }));
                    }
                    let plan = TopicPlan { name: name.clone(), partitions: 1, replication: None, config: Vec::new() };
                    admin.create_topic(&plan).await?;
                }
                let topic = Topic::named(name);
                let targets = Targets::default();
                load_topic_limits(&admin, topic, &targets).await?;
                let options =
                    ProducerOptions { compression: "lz4".to_owned(), linger: Duration::from_millis(5), keep_timestamps: false };
                DeadLetterSink::Topic(KafkaSink::open(&section, &options, targets, Box::new(move |_| (topic, None)))?)
            }
        };
        let run = run.to_owned();
        let make: DeadLetterBuilder = Box::new(move |record, reason, attempts| {
            let stage = if attempts == 0 { FailureStage::Shaping } else { FailureStage::Delivery };
            dead_letter(record, &DeadLetterCause { run: &run, stage, attempts, reason })
        });
        Ok(Some(DeadLetters { sink, build: make }))
    }
}

/// Looks up what the brokers take in a topic and notes it among the targets.
///
/// # Errors
/// When the cluster does not answer.
pub async fn load_topic_limits(admin: &Admin, topic: Topic, targets: &Targets) -> Result<(), Error> {
    let settings = admin.settings(topic).await?;
    let value = |key: &str| settings.get(key).map(|setting| setting.value.as_str());
    let facts = TopicLimits {
        max_message_bytes: value("max.message.bytes").and_then(|text| text.parse().ok()).unwrap_or(1_048_588),
        needs_key: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
    };
    targets.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(topic, facts);
    Ok(())
}

/// A mover that has been put together.
pub struct Flow<'a, S, K> {
    /// The command's name.
    pub command: &'static str,
    /// The name of the run.
    pub run: String,
    /// The sections that records go from and to.
    pub sections: [String; 2],
    /// What is read.
    pub select: &'a ReadArgs,
    /// How it is delivered.
    pub deliver: &'a DeliveryArgs,
    /// How it is watched.
    pub watching: RunReporting<'a>,
    /// How many records there are to be read now.
    pub backlog: u64,
    /// Where records come from.
    pub source: S,
    /// Where they go.
    pub sink: K,
    /// Where bad ones go.
    pub letters: Option<DeadLetters<DeadLetterSink>>,
    /// What is done to each on its way.
    pub transform: Option<Transform>,
    /// The limits of the engine.
    pub limits: Limits,
}

impl<S: Source, K: Sink + 'static> Flow<'_, S, K> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let Self { command, run, sections: [from, to], select, deliver, watching, backlog, .. } = self;
        let show = Presentation {
            headline: RunInfo { command, run, route: format!("{from} → {to}"), has_positions: true },
            expected: select.is_bounded().then(|| backlog.min(select.count.unwrap_or(u64::MAX))),
            bounded: select.is_bounded(),
            watching,
            more: None,
        };
        run::run(context, show, |observer, stop| Pipeline {
            source: self.source,
            sink: self.sink,
            dead_letters: self.letters,
            transform: self.transform,
            bad_records: deliver.care.bad_records(),
            limits: self.limits,
            observer,
            stop,
        })
        .await
    }
}

/// Where dead letters go.
pub enum DeadLetterSink {
    /// A topic.
    Topic(KafkaSink),
    /// A file.
    File(DeadLetterFile),
}

impl Sink for DeadLetterSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        match self {
            Self::Topic(sink) => sink.submit(batch).await,
            Self::File(sink) => sink.submit(batch).await,
        }
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        match self {
            Self::Topic(sink) => sink.check().await,
            Self::File(sink) => sink.check().await,
        }
    }

    fn ordering(&self) -> Ordering {
        match self {
            Self::Topic(sink) => sink.ordering(),
            Self::File(sink) => sink.ordering(),
        }
    }

    fn degraded_reason(&self) -> Option<String> {
        match self {
            Self::Topic(sink) => sink.degraded_reason(),
            Self::File(sink) => sink.degraded_reason(),
        }
    }
}

/// Where dead letters are to go, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterTarget {
    /// A topic, of another section than usual if one is named.
    Topic {
        /// The section.
        section: Option<String>,
        /// The topic.
        name: String,
    },
    /// A file.
    File(PathBuf),
}

fn dead_letter_target(text: &str) -> Result<DeadLetterTarget, String> {
    match text.split_once(':') {
        Some(("topic", name)) if !name.is_empty() => Ok(match name.split_once('/') {
            Some((section, name)) => DeadLetterTarget::Topic { section: Some(section.to_owned()), name: name.to_owned() },
            None => DeadLetterTarget::Topic { section: None, name: name.to_owned() },
        }),
        Some(("file", path)) if !path.is_empty() => Ok(DeadLetterTarget::File(path.into())),
        _ => Err("use topic:NAME, topic:SECTION/NAME or file:PATH".to_owned()),
    }
}

/// A limit for bad records, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterLimit(pub Option<BreakerLimit>);

fn breaker(text: &str) -> Result<DeadLetterLimit, String> {
    if text == "none" {
        return Ok(DeadLetterLimit(None));
    }
    let parsed = text.split_once('/').and_then(|(records, within)| {
        Some(BreakerLimit { records: records.parse().ok()?, within: humantime::parse_duration(within).ok()? })
    });
    parsed.map(|limit| DeadLetterLimit(Some(limit))).ok_or_else(|| "use N/DURATION, as in 1000/1m, or none".to_owned())
}

/// Reads a size in bytes: `500`, `64kB`, `8MB`, `1GB` (powers of 1000), `64KiB`, `8MiB` (powers of 1024).
///
/// # Errors
/// When it is no size.
pub fn size(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "k" | "kB" | "KB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "not a size: use bytes, kB, MB or GB, as in 8MB".to_owned())
}

/// Reads a rate: a bare number is records a second, a size bytes a second; `/s` may follow.
///
/// # Errors
/// When it is no rate.
#[allow(clippy::cast_precision_loss)] // a rate
pub fn rate(text: &str) -> Result<Rate, String> {
    let bare = text.strip_suffix("/s").unwrap_or(text);
    let wrong = || "not a rate: use records a second, as in 5000, or bytes a second, as in 5MB".to_owned();
    if let Ok(records) = bare.parse::<f64>() {
        return if records > 0.0 && records.is_finite() { Ok(Rate::Records(records)) } else { Err(wrong()) };
    }
    size(bare).map(|bytes| Rate::Bytes(bytes as f64)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_with_their_units() {
        for (text, bytes) in [("500", 500), ("64kB", 64_000), ("8MB", 8_000_000), ("1GB", 1_000_000_000), ("2MiB", 2 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "1.5MB", "5 parsecs", "0", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(rate("5000"), Ok(Rate::Records(5000.0)));
        assert_eq!(rate("0.5/s"), Ok(Rate::Records(0.5)));
        assert_eq!(rate("5MB"), Ok(Rate::Bytes(5e6)));
        for text in ["", "0", "-1", "fast", "inf"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dead_letters_and_their_limit_are_read_as_typed() {
        let topic =
            |section: Option<&str>, name: &str| DeadLetterTarget::Topic { section: section.map(Into::into), name: name.into() };
        assert_eq!(dead_letter_target("topic:bad"), Ok(topic(None, "bad")));
        assert_eq!(dead_letter_target("topic:remote_kafka/bad"), Ok(topic(Some("remote_kafka"), "bad")));
        assert_eq!(dead_letter_target("file:/tmp/a:b"), Ok(DeadLetterTarget::File("/tmp/a:b".into())));
        assert!(
            dead_letter_target("bad").is_err() && dead_letter_target("topic:").is_err() && dead_letter_target("file:").is_err()
        );
        let limit = BreakerLimit { records: 10, within: Duration::from_secs(90) };
        assert_eq!(breaker("10/1m 30s"), Ok(DeadLetterLimit(Some(limit))));
        assert_eq!(breaker("none"), Ok(DeadLetterLimit(None)));
        assert!(breaker("10").is_err() && breaker("x/1m").is_err());
    }
}
