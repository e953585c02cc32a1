//! `sdl produce-fake`.

use std::io::{stdin, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::commands::args::{
    KAFKA_DEFAULTS, NewTopic, ReportArgs, SummaryFormat, parse_count, parse_duration, parse_rate, parse_whole,
};
use crate::commands::dead_letters::DeadLetterSink;
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSink, Pos, ProducerOptions, Targets, WatchedTopic};
use crate::connectors::ndjson::{NdjsonSink, NdjsonSource};
use crate::error::Error;
use crate::error::hints::with_hint;
use crate::logins::fake::{Clock, FakeLogins, FakePlan, Fraction, LateEvents, Malformed, Missing, RecordKey, TimestampFormat};
use crate::pipeline::{BadRecordPolicy, Failure, Limits, Observer, Pipeline, Rate, RunOutcome, Sink, Source, WatchedSink};
use crate::record::{Partition, Topic};
use crate::report::{RunInfo, parse_address};

/// Produce fake user-login events to a topic, with faults on request
///
/// Without arguments: ten events per second until interrupted. With -n or --duration: at full speed. With --seed, the same arguments
/// produce the same bytes on every machine: event times start at --start-time and advance by 1/RATE per event (by one millisecond
/// without --rate), independent of the clock.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Topic to write to
    #[arg(default_value = "user-login")]
    topic: String,
    /// Kafka section of the profile to write to
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    target: String,
    /// Stop after N records, including duplicates
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Stop after this time; with a --rate in records, after RATE x DURATION records
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "file")]
    duration: Option<Duration>,
    /// Records per second (5000) or bytes per second (5MB) [default: 10 without -n and --duration, else unlimited]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// Create the topic with this number of partitions and replicas if it does not exist
    #[arg(long, value_name = "PARTITIONS:REPLICATION")]
    create: Option<NewTopic>,
    /// Send the records of this file, or of stdin (-), instead: output of `tail -o ndjson`, or one JSON value per line
    #[arg(long, value_name = "PATH", conflicts_with_all = EVENT_FLAGS)]
    file: Option<PathBuf>,
    /// Format of the summary: `text` on stderr, or `json` on stdout; `ndjson` prints the records instead of sending them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: EventFormat,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    sending: SendArgs,
}

/// The records of a run that wrote them.
const PRODUCED: LostContent = LostContent {
    missing: "",
    what: "the records that were written to it",
    hint: "start again to write them once more, with the same --seed",
};

/// The flags of [`EventArgs`], which conflict with a file.
const EVENT_FLAGS: [&str; 9] = ["seed", "start_time", "users", "key", "timestamps", "missing", "malformed", "late", "duplicates"];

const EXAMPLES: &str = "\
Examples:
  sdl produce-fake
  sdl produce-fake logins --create 6:1 -n 1000000 --seed 7
  sdl produce-fake --rate 500 --missing device_type=0.05,locale=0.01 --late 0.02:30s
  sdl produce-fake -n 1000 --malformed 0.1:truncated,not-utf8 -o ndjson
  sdl tail orders --start beginning -o ndjson | sdl produce-fake orders-copy --file -";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Events")]
struct EventArgs {
    /// Produce the same bytes every time
    #[arg(long, value_name = "N", value_parser = parse_count)]
    seed: Option<u64>,
    /// Time of the first event: now, Unix seconds or ms, a date or RFC 3339, or -1h [default: now, with --seed 2023-09-12T00:45:51Z]
    #[arg(long, value_name = "TIME", value_parser = parse_start_time, allow_hyphen_values = true)]
    start_time: Option<i64>,
    /// Number of users; a few of them log in often
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_whole::<u64>(1, u64::MAX))]
    users: u64,
    /// Key of the records
    #[arg(long, value_name = "KEY", default_value = "user_id")]
    key: KeyBy,
    /// Type of the event time
    #[arg(long, value_name = "TYPE", default_value = "int")]
    timestamps: TimeType,
    /// Omit a field from this fraction of the events: device_type=0.05
    #[arg(long, value_name = "FIELD=FRACTION", value_delimiter = ',')]
    missing: Vec<Missing>,
    /// Break this fraction of the values: 0.01, or 0.01:KIND,... with truncated, wrong-type, not-utf8, array, huge (900 kB), null (a tombstone)
    #[arg(long, value_name = "FRACTION[:KIND,...]")]
    malformed: Option<Malformed>,
    /// Make this fraction of the events late by DURATION: 0.02:30s
    #[arg(long, value_name = "FRACTION:DURATION")]
    late: Option<LateEvents>,
    /// Send this fraction of the records twice in a row
    #[arg(long, value_name = "FRACTION", default_value = "0")]
    duplicates: Fraction,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KeyBy {
    #[value(name = "user_id")]
    UserId,
    #[value(name = "device_id")]
    DeviceId,
    Random,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TimeType {
    Int,
    String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it is delivered")]
struct SendArgs {
    /// Compression codec of the produced batches
    #[arg(long, value_name = "CODEC", default_value = "lz4", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    /// Fail if no record could be delivered for this long [default: wait for the end of an outage]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    retry_for: Option<Duration>,
    /// How long to wait for the first answer of a server
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    wait: Duration,
    /// How long to wait at the end for records in flight
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    shutdown_timeout: Duration,
    /// Without a terminal: one status line every N records, and at least every 10 s
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = parse_whole::<u64>(1, u64::MAX))]
    log_interval: u64,
    /// Show what would be done, without changing anything
    #[arg(long)]
    dry_run: bool,
    /// Serve a status page and Prometheus metrics at this address (9464, 0.0.0.0:9464) while it runs: /, /metrics, /healthz, /readyz
    ///
    /// A port alone listens on the loopback interface. /readyz is 200 while records can be delivered.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    metrics: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EventFormat {
    Text,
    Json,
    Ndjson,
}

/// Parses a time; returns Unix seconds.
fn parse_start_time(text: &str) -> Result<i64, String> {
    let now = || i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX);
    let milliseconds = match format!("@{text}").parse() {
        _ if text == "now" => now(),
        Ok(Pos::Time(time)) => time,
        Ok(Pos::Ago(before)) => now().saturating_sub(before),
        _ => return Err("use now, Unix seconds or milliseconds, a date, RFC 3339, or -1h".to_owned()),
    };
    Ok(milliseconds.div_euclid(1000))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

impl Args {
    /// Returns how the run is reported.
    #[must_use]
    pub(crate) fn reporting(&self) -> ReportArgs {
        ReportArgs {
            log_interval: self.sending.log_interval,
            output: if self.output == EventFormat::Json { SummaryFormat::Json } else { SummaryFormat::Text },
            dry_run: self.sending.dry_run,
            metrics: self.sending.metrics,
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// When the profile, the file or the cluster cannot be used, a line is bad, or the topic rejects a record.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match &self.file {
            Some(path) if path.as_os_str() == "-" => {
                let lines =
                    NdjsonSource::of("stdin", stdin()).map_err(|error| Failure::new("cannot read lines").because(error))?;
                self.produce(context, "stdin".to_owned(), None, lines).await
            }
            Some(path) => self.produce(context, path.display().to_string(), None, NdjsonSource::open(path)?).await,
            None => {
                let (plan, duration) = self.plan();
                let (route, count) = (format!("seed {}", plan.seed), plan.count);
                self.produce(context, route, count, FakeLogins::new(plan, duration)).await
            }
        }
    }

    /// Prints or sends the records of `source`; `from` describes it.
    async fn produce(&self, context: &Context, from: String, count: Option<u64>, source: impl Source) -> Result<(), Error> {
        let watch = self.reporting();
        let watching = RunReporting::begin(&watch, None).await?;
        if self.output == EventFormat::Ndjson {
            return self.print(context, source, &watching).await;
        }
        let Some(sink) = self.open(context, &from).await? else { return Ok(()) };
        let show = Presentation {
            letters: None,
            headline: RunInfo {
                command: "produce-fake",
                run: run::new_id(),
                route: format!("{from} → {}/{}", self.target, self.topic),
                has_positions: false,
            },
            expected: count.or(self.count),
            bounded: self.is_bounded(),
            reporting: watching,
            extra_lines: None,
        };
        run::run_reported(context, show, |observer, stop| self.pipeline(source, sink, observer, stop).run()).await
    }

    /// Prints the records, without progress and summary.
    async fn print(&self, context: &Context, source: impl Source, watching: &RunReporting<'_>) -> Result<(), Error> {
        let lines = NdjsonSink::new(stdout(), Partition::new(&self.topic, -1));
        let silent: Arc<dyn Observer> = Arc::new(watching.observers());
        let finished = self.pipeline(source, lines.clone(), silent, context.stop.receiver()).run().await;
        if let Some(error) = lines.error() {
            return Err(error.into());
        }
        match finished.outcome {
            RunOutcome::Complete | RunOutcome::Interrupted => Ok(()),
            RunOutcome::Failed(error) => Err(error.into()),
            RunOutcome::Record(failure) => Err(Error::Record(with_hint(failure))),
        }
    }

    fn pipeline<S: Source, K: Sink + 'static>(
        &self,
        source: S,
        sink: K,
        observer: Arc<dyn Observer>,
        stop: watch::Receiver<bool>,
    ) -> Pipeline<S, K, DeadLetterSink> {
        let limits = Limits {
            batch: KAFKA_DEFAULTS.batch as usize,
            batch_bytes: usize::try_from(KAFKA_DEFAULTS.batch_bytes).unwrap_or(usize::MAX),
            linger: Duration::ZERO,
            in_flight: KAFKA_DEFAULTS.in_flight as usize,
            rate: self.effective_rate(),
            count: self.count,
            commit_each: false,
            retry_for: self.sending.retry_for,
            breaker: None,
            shutdown_timeout: self.sending.shutdown_timeout,
        };
        let (dead_letters, transform, bad_records) = (None, None, BadRecordPolicy::Stop);
        Pipeline { source, sink, dead_letters, transform, bad_records, limits, observer, stop }
    }

    /// Opens the topic, and creates it on request; `None` after a dry run.
    async fn open(&self, context: &Context, from: &str) -> Result<Option<WatchedSink<KafkaSink>>, Error> {
        let section = context.kafka(&self.target)?;
        let admin = Admin::connect(&section, self.sending.wait).await?;
        let topic = Topic::named(&self.topic);
        let existing = admin.find_topic(topic.name()).await?;
        let create = NewTopic::plan(self.create, &admin, topic, existing.as_ref()).await?;
        let say_creation = || {
            if let Some(create) = create {
                tracing::info!("{topic}: {}", create.line());
            }
        };
        let what = if self.file.is_some() { "the records" } else { "events" };
        let what = format!("{what} of {from} to {}/{topic}", section.name);
        let options = ProducerOptions {
            compression: self.sending.compression.clone(),
            linger: KAFKA_DEFAULTS.linger,
            keep_timestamps: false,
        };
        if self.sending.dry_run {
            protect::refuse_read_only(&section, &[topic], protect::OTHER_TARGET)?;
            KafkaSink::check_client(&section, &options)?;
            say_creation();
            tracing::info!("Would produce {what}");
            context.say("dry run: nothing was changed\n");
            return Ok(None);
        }
        protect::confirm(context, &section, &[topic])?;
        say_creation();
        tracing::info!("Producing {what}");
        if let Some(create) = create {
            create.create(&admin, topic).await?;
        }
        let targets = Targets::default();
        admin.load_topic_limits(topic, &targets).await?;
        let sink = KafkaSink::open(&section, &options, targets, Box::new(move |_| (topic, None)))?;
        let watcher = watch_topic(WatchedTopic::new(admin, topic), sink.watch(), PRODUCED, || false);
        Ok(Some(WatchedSink::new(sink, watcher)))
    }

    fn is_bounded(&self) -> bool {
        self.count.is_some() || self.duration.is_some() || self.file.is_some()
    }

    fn effective_rate(&self) -> Option<Rate> {
        self.rate.or((!self.is_bounded()).then_some(Rate::Records(10.0)))
    }

    /// Returns the plan of the events, and the time limit.
    fn plan(&self) -> (FakePlan, Option<Duration>) {
        let events = &self.events;
        let rate = match self.effective_rate() {
            Some(Rate::Records(rate)) => Some(rate),
            _ => None,
        };
        let mut count = self.count;
        let mut duration = self.duration;
        if let (Some(rate), Some(time)) = (rate, duration) {
            let most = whole(rate * time.as_secs_f64());
            count = Some(count.map_or(most, |count| count.min(most)));
            duration = None;
        }
        let steps = |start| Clock::Steps { start, step: Duration::from_secs_f64(1.0 / rate.unwrap_or(1000.0)) };
        let plan = FakePlan {
            seed: events.seed.unwrap_or_else(|| u64::from(run::random())),
            count,
            users: events.users,
            key: match events.key {
                KeyBy::UserId => RecordKey::UserId,
                KeyBy::DeviceId => RecordKey::DeviceId,
                KeyBy::Random => RecordKey::Random,
                KeyBy::None => RecordKey::None,
            },
            missing: events.missing.clone(),
            malformed: events.malformed.clone(),
            late: events.late,
            duplicates: events.duplicates,
            timestamps: if events.timestamps == TimeType::String { TimestampFormat::String } else { TimestampFormat::Int },
            clock: match (events.start_time, events.seed) {
                (Some(start), _) => steps(start),
                (None, Some(_)) => steps(Clock::START),
                (None, None) => Clock::Live(now),
            },
        };
        (plan, duration)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float that is too large becomes the largest number
fn whole(records: f64) -> u64 {
    records.round() as u64
}
