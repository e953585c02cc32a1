//! `sdl produce-fake`.

use std::io::{Stdout, stdin, stdout};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::commands::Context;
use crate::commands::rate::rate;
use crate::connectors::kafka::{Admin, KafkaSink, Pos, SinkOptions, Targets, TopicPlan};
use crate::connectors::lines::{LettersFile, Lines, LinesSink};
use crate::error::Error;
use crate::logins::fake::{Clock, FakeLogins, Fraction, Key, Late, Malformed, Missing, Plan, Timestamps};
use crate::pipeline::{BadRecords, DeadLetters, Ending, Failure, Limits, Observer, Pipeline, Rate, Sink, Source};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Fill a topic with fake user-login events, and with faults if asked
///
/// Without arguments ten events a second, until interrupted. With -n or --duration as fast as the cluster takes them. With
/// --seed the same arguments give the same bytes, on every machine: then the events' time starts at --start-time and goes on
/// by 1/RATE from event to event (by a millisecond without --rate), whatever the clock says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The topic to write to
    #[arg(default_value = "user-login")]
    topic: String,
    /// The Kafka section of the profile to write to
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    target: String,
    /// Stop after so many records, duplicates included
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time; with --seed and a --rate in records, after as many records as it has room for
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "file")]
    duration: Option<Duration>,
    /// Records a second (5000) or bytes a second (5MB) [default: 10 without -n and --duration, else full speed]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// Create the topic with so many partitions and replicas, unless it is there
    #[arg(long, value_name = "PARTITIONS:REPLICATION", conflicts_with = "output")]
    create: Option<Create>,
    /// Send the records of this file instead, or of standard input (-): what `tail -o ndjson` wrote, or a JSON value a line
    #[arg(long, value_name = "PATH", conflicts_with_all = FAKING)]
    file: Option<PathBuf>,
    /// Print the records to standard output instead of sending them
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    #[command(flatten)]
    events: Events,
}

/// The flags of [`Events`], which a file leaves nothing to.
const FAKING: [&str; 9] = ["seed", "start_time", "users", "key", "timestamps", "missing", "malformed", "late", "duplicates"];

const EXAMPLES: &str = "\
Examples:
  sdl produce-fake
  sdl produce-fake logins --create 6:1 -n 1000000 --seed 7
  sdl produce-fake --rate 500 --missing device_type=0.05,locale=0.01 --late 0.02:30s
  sdl produce-fake -n 1000 --malformed 0.1:truncated,not-utf8 -o ndjson
  sdl tail orders --start beginning -o ndjson | sdl produce-fake orders-copy --file -";

/// What the events are like.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Events")]
struct Events {
    /// Make the same bytes every time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The first event's time: now, Unix seconds or ms, a date or RFC 3339, or -1h [default: now, with --seed 2023-09-12T00:45:51Z]
    #[arg(long, value_name = "TIME", value_parser = start_time, allow_hyphen_values = true)]
    start_time: Option<i64>,
    /// So many users; a few of them log in often
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// What records are keyed by
    #[arg(long, value_name = "KEY", default_value = "user_id")]
    key: KeyBy,
    /// How the event's time is written
    #[arg(long, value_name = "TYPE", default_value = "int")]
    timestamps: TimeAs,
    /// Leave a field out of such a fraction of the events: device_type=0.05
    #[arg(long, value_name = "FIELD=FRACTION", value_delimiter = ',')]
    missing: Vec<Missing>,
    /// Break such a fraction of the values: 0.01, or 0.01:KIND,... with truncated, wrong-type, not-utf8, array, huge (900 kB), null (a tombstone)
    #[arg(long, value_name = "FRACTION[:KIND,...]")]
    malformed: Option<Malformed>,
    /// Give such a fraction of the events a time that is past by so much: 0.02:30s
    #[arg(long, value_name = "FRACTION:DURATION")]
    late: Option<Late>,
    /// Send such a fraction of the records twice in a row
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
enum TimeAs {
    Int,
    String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Ndjson,
}

/// Partitions and replicas of a topic: `6:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Create {
    partitions: i32,
    replication: i32,
}

impl FromStr for Create {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let parsed = text.split_once(':').and_then(|(partitions, replication)| {
            Some(Self { partitions: number(partitions)?, replication: number(replication)? })
        });
        parsed.ok_or_else(|| format!("`{text}` is not PARTITIONS:REPLICATION, as 6:1 is"))
    }
}

/// Returns the Unix seconds of a time as it is typed.
fn start_time(text: &str) -> Result<i64, String> {
    let now = || i64::try_from(unix().as_millis()).unwrap_or(i64::MAX);
    let milliseconds = match format!("@{text}").parse() {
        _ if text == "now" => now(),
        Ok(Pos::Time(time)) => time,
        Ok(Pos::Ago(before)) => now() - before,
        _ => return Err("write now, Unix seconds or milliseconds, a date, RFC 3339, or -1h".to_owned()),
    };
    Ok(milliseconds.div_euclid(1000))
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now() -> i64 {
    i64::try_from(unix().as_secs()).unwrap_or(i64::MAX)
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the profile, the file or the cluster cannot be used, a line is bad, or a record does not fit the topic.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match self.output {
            Some(Output::Ndjson) => {
                let lines: LinesSink<Stdout> = LinesSink::new(stdout(), Partition::new(&self.topic, -1));
                let done = self.fill(lines.clone()).await;
                lines.error().map_or(done, |error| Err(error.into()))
            }
            None => {
                let sink = self.topic_on(&context.kafka(&self.target)?).await?;
                self.fill(sink).await
            }
        }
    }

    /// Sends what was asked for to `sink`.
    async fn fill(&self, sink: impl Sink + 'static) -> Result<(), Error> {
        match &self.file {
            Some(path) if path.as_os_str() == "-" => {
                let lines = Lines::of("stdin", stdin()).map_err(|error| Failure::new("cannot read lines").because(error))?;
                self.deliver(lines, sink).await
            }
            Some(path) => self.deliver(Lines::open(path)?, sink).await,
            None => {
                let (plan, duration) = self.plan();
                self.deliver(FakeLogins::new(plan, duration.map(|duration| Instant::now() + duration)), sink).await
            }
        }
    }

    async fn deliver(&self, source: impl Source, sink: impl Sink + 'static) -> Result<(), Error> {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                let _ = stop.send(true);
            }
            stop.closed().await;
        });
        let pipeline = Pipeline {
            source,
            sink,
            dead_letters: None::<DeadLetters<LettersFile>>,
            transform: None,
            bad_records: BadRecords::Stop,
            limits: Limits {
                batch: 1000,
                batch_bytes: 1_000_000,
                linger: Duration::from_millis(5),
                in_flight: 16,
                rate: self.pace(),
                count: self.count,
                commit_each: false,
                retry_for: None,
                breaker: None,
                shutdown_timeout: Duration::from_secs(25),
            },
            observer: Arc::new(Vec::<Box<dyn Observer>>::new()),
            stop: stopped,
        };
        match pipeline.run().await.ending {
            Ending::Complete | Ending::Interrupted => Ok(()),
            Ending::Failed(error) => Err(error.into()),
            Ending::Record(failure) => Err(Error::Record(failure)),
        }
    }

    /// Returns the topic as a sink, created if that was asked for.
    async fn topic_on(&self, section: &KafkaSection) -> Result<KafkaSink, Error> {
        let admin = Admin::connect(section, Duration::from_secs(10)).await?;
        let name = &self.topic;
        if admin.topic(name).await?.is_none() {
            let Some(Create { partitions, replication }) = self.create else {
                let failure = Failure::new(format!("there is no topic `{name}` on `{}`", section.name));
                return Err(failure.hint(format!("sdl produce-fake {name} --create 6:1")).into());
            };
            let plan = TopicPlan { name: name.clone(), partitions, replication: Some(replication), config: Vec::new() };
            admin.create_topic(&plan).await?;
        }
        let options = SinkOptions { compression: "lz4".to_owned(), linger: Duration::from_millis(5) };
        let topic = Topic::named(name);
        Ok(KafkaSink::open(section, &options, Targets::default(), Box::new(move |_| (topic, None)))?)
    }

    /// Returns how fast records are made.
    fn pace(&self) -> Option<Rate> {
        let bounded = self.count.is_some() || self.duration.is_some() || self.file.is_some();
        self.rate.or((!bounded).then_some(Rate::Records(10.0)))
    }

    /// Returns the plan of the events, and how long to go on.
    fn plan(&self) -> (Plan, Option<Duration>) {
        let events = &self.events;
        let paced = match self.pace() {
            Some(Rate::Records(rate)) => Some(rate),
            _ => None,
        };
        let mut count = self.count;
        let mut duration = self.duration;
        if let (Some(_), Some(rate), Some(time)) = (events.seed, paced, duration) {
            let room = whole(rate * time.as_secs_f64());
            count = Some(count.map_or(room, |count| count.min(room)));
            duration = None;
        }
        let steps = |start| Clock::Steps { start, step: Duration::from_secs_f64(1.0 / paced.unwrap_or(1000.0)) };
        let plan = Plan {
            seed: events.seed.unwrap_or_else(|| u64::try_from(unix().as_nanos() & u128::from(u64::MAX)).unwrap_or_default()),
            count,
            users: events.users,
            key: match events.key {
                KeyBy::UserId => Key::UserId,
                KeyBy::DeviceId => Key::DeviceId,
                KeyBy::Random => Key::Random,
                KeyBy::None => Key::None,
            },
            missing: events.missing.clone(),
            malformed: events.malformed.clone(),
            late: events.late,
            duplicates: events.duplicates,
            timestamps: if events.timestamps == TimeAs::String { Timestamps::String } else { Timestamps::Int },
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
