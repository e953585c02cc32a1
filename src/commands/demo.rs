//! `sdl demo`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::commands::Context;
use crate::commands::embedded::{Embedded, TemporaryFile};
use crate::connectors::kafka::{PartitionDigest, end_process, topic_digest};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Partition;
use crate::terminal::{Cell, Column, Listing, ListingFormat};

mod sinks;

use sinks::DemoSink;

/// The number of events.
const EVENTS: &str = "20000";
const PARTITIONS: i32 = 4;
const TOPIC: &str = "user-login";
/// The topic of the windowed counts.
const WINDOWS: &str = "user-login-processed";

/// See it work: fake logins, copied between two embedded clusters, with every record accounted for
///
/// Needs no server, profile or network: the brokers run in this process. Each step runs the command that you would run yourself,
/// as a separate process.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Also load the copy into this MongoDB: `mongodb://HOST:PORT`, with user and password if required
    #[arg(long, value_name = "URI")]
    mongo: Option<String>,
    /// Also load the copy into this Elasticsearch or OpenSearch: `http://HOST:PORT`
    #[arg(long, value_name = "URL")]
    es: Option<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When a step fails, or the numbers disagree at the end.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let mut stop = context.stop.receiver();
        // Dropped before the process ends: its profile, which may hold a password, is removed.
        let ended = tokio::select! {
            ended = self.show(context) => Some(ended),
            _ = stop.wait_for(|requested| *requested) => None,
        };
        ended.unwrap_or_else(|| {
            context.say("interrupted: the demo is not complete\n");
            end_process(130)
        })
    }

    async fn show(self, context: &Context) -> Result<(), Error> {
        let sinks: Vec<DemoSink> =
            [self.mongo.map(DemoSink::mongo), self.es.as_deref().map(DemoSink::elastic)].into_iter().flatten().collect();
        for sink in &sinks {
            sink.reach().await?;
        }
        let clusters = Embedded::start("demo", TOPIC)?;
        clusters.create_topic(TOPIC, PARTITIONS)?;
        clusters.create_topic(WINDOWS, 1)?;
        let sections: String = sinks.iter().map(DemoSink::section).collect();
        let profile = TemporaryFile::write(None, "demo", &format!("{}{sections}", clusters.profile()))?;
        context.say("Two Kafka clusters run in this process during the demo.\n");

        let steps: [(&str, &[&str]); 5] = [
            (
                "Fake logins are produced to the first cluster.",
                &["produce-fake", TOPIC, "--target", "remote_kafka", "-n", EVENTS, "--seed", "7"],
            ),
            ("The topic is replicated to the second cluster, up to its current end.", &["replicate", TOPIC, "--until-caught-up"]),
            (
                "The copy is aggregated in windows of ten seconds; each window is published in one transaction with its source offsets (embedded brokers accept transactions, but do not isolate them).",
                &["aggregate", TOPIC, "--until-caught-up"],
            ),
            ("The last records of the copy.", &["tail", TOPIC, "-n", "3", "--keep", "user_id,device_type,locale,ip"]),
            ("The lag of the consumer group that replicated the topic.", &["lag", "demo", "--source", "remote_kafka"]),
        ];
        let sdl = Sdl { context, profile };
        for (title, arguments) in steps {
            sdl.step(title, arguments).await?;
        }
        for sink in &sinks {
            sdl.step(sink.title(), &sink.arguments(TOPIC)).await?;
        }
        let counted = sdl.count("Independent check: count the lines, by partition.").await?;
        let aggregated = sdl.aggregated("The windows.").await?;
        let (east, west) = (clusters.remote.clone(), clusters.local.clone());
        let (produced, replicated) = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>((topic_digest(&east, TOPIC, PARTITIONS)?, topic_digest(&west, TOPIC, PARTITIONS)?))
        })
        .await
        .map_err(|error| Failure::new("cannot read the topics").because(error))??;
        let mut loaded = Vec::new();
        for sink in &sinks {
            loaded.push((sink.name(), sink.count(PARTITIONS).await?));
        }

        context.say("\nBoth topics were read again and compared record by record:\n");
        let accounts = Accounts { produced, replicated, aggregated, counted, loaded };
        context.print(&accounts.listing().render(ListingFormat::Table))?;
        if !accounts.agree() {
            return Err(Failure::new(format!("the numbers disagree: {EVENTS} events were produced")).into());
        }
        for sink in &sinks {
            context.say(&sink.farewell());
        }
        context.say("\nNext: `sdl sandbox` keeps such clusters running; `sdl profile init` writes a profile for your own.\n");
        Ok(())
    }
}

/// The numbers of records by partition, by place.
struct Accounts {
    produced: BTreeMap<Partition, PartitionDigest>,
    replicated: BTreeMap<Partition, PartitionDigest>,
    /// In all windows and partitions.
    aggregated: i64,
    counted: BTreeMap<i32, i64>,
    loaded: Vec<(&'static str, BTreeMap<i32, i64>)>,
}

impl Accounts {
    /// Returns the numbers of a partition, in the order of the columns.
    fn numbers(&self, partition: &Partition) -> Vec<i64> {
        let held = |held: &BTreeMap<Partition, PartitionDigest>| held.get(partition).map_or(0, |held| held.records.cast_signed());
        let counted = std::iter::once(&self.counted).chain(self.loaded.iter().map(|(_, counts)| counts));
        let counted = counted.map(|counts| counts.get(&partition.index).copied().unwrap_or(0));
        [held(&self.produced), held(&self.replicated)].into_iter().chain(counted).collect()
    }

    /// Returns whether the numbers and digests of a partition agree.
    fn is_same(&self, partition: &Partition) -> bool {
        let numbers = self.numbers(partition);
        self.produced.get(partition) == self.replicated.get(partition) && numbers.iter().all(|number| *number == numbers[0])
    }

    /// Returns the sums over the partitions, in the order of the columns.
    fn sums(&self) -> Vec<i64> {
        let mut sums = vec![0; 3 + self.loaded.len()];
        for partition in self.produced.keys() {
            sums.iter_mut().zip(self.numbers(partition)).for_each(|(sum, number)| *sum += number);
        }
        sums
    }

    /// Returns whether every event that was produced is everywhere.
    fn agree(&self) -> bool {
        self.produced.keys().all(|partition| self.is_same(partition))
            && self.sums().iter().chain([&self.aggregated]).all(|sum| sum.to_string() == EVENTS)
    }

    fn listing(&self) -> Listing {
        let loaded = self.loaded.iter().map(|(name, _)| Column::Number(name));
        let mut columns =
            vec![Column::Text("partition"), Column::Number("produced"), Column::Number("replicated"), Column::Number("counted")];
        columns.extend(loaded.chain([Column::Number("aggregated"), Column::Text("same")]));
        let mut table = Listing::new("partitions", &columns);
        let mut row = |name: &str, numbers: Vec<i64>, aggregated: Cell, same: bool| {
            let same = if same { "yes" } else { "NO" };
            let cells = std::iter::once(name.into()).chain(numbers.into_iter().map(Cell::from)).chain([aggregated, same.into()]);
            table.push(cells.collect::<Vec<Cell>>());
        };
        for partition in self.produced.keys() {
            row(&partition.to_string(), self.numbers(partition), "".into(), self.is_same(partition));
        }
        row("all", self.sums(), self.aggregated.into(), self.agree());
        table
    }
}

/// Runs the commands of the demo as separate processes.
struct Sdl<'a> {
    context: &'a Context,
    profile: TemporaryFile,
}

impl Sdl<'_> {
    /// Shows a command line and runs it.
    async fn step<A: AsRef<str>>(&self, title: &str, arguments: &[A]) -> Result<(), Error> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        self.context.say(&format!("\n{title}\n$ sdl {}\n", arguments.join(" ")));
        let what = || Failure::new(format!("the step `sdl {}` failed", arguments.join(" ")));
        let mut command = self.command(&arguments).map_err(|error| what().because(error))?;
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let status = status.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if status.success() { Ok(()) } else { Err(what().because(status).into()) }
    }

    /// Returns the sum of the windows' events.
    async fn aggregated(&self, title: &str) -> Result<i64, Error> {
        let output = self.output_of(title, &["tail", WINDOWS, "--start", "beginning", "-f", "%s\\n"], "").await?;
        self.context.print(&output)?;
        let events = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["interval_messages_consumed"].as_i64();
        let windows: Option<Vec<i64>> = output.lines().map(events).collect();
        windows.map(|windows| windows.iter().sum()).ok_or_else(|| Failure::new("the windows cannot be parsed").into())
    }

    /// Shows a command line and the pipe that follows it, runs the command, and returns its output.
    async fn output_of(&self, title: &str, arguments: &[&str], pipe: &str) -> Result<String, Error> {
        let shown = arguments.join(" ").replace("%p\\n", "'%p\\n'").replace("%s\\n", "'%s\\n'");
        self.context.say(&format!("\n{title}\n$ sdl {shown}{pipe}\n"));
        let what = || Failure::new("cannot count the records of the topic");
        let mut command = self.command(arguments).map_err(|error| what().because(error))?;
        let output = tokio::task::spawn_blocking(move || command.stderr(Stdio::inherit()).output()).await;
        let output = output.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if !output.status.success() {
            return Err(what().because(output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Counts the records of the copy by partition, as the shown pipe does.
    async fn count(&self, title: &str) -> Result<BTreeMap<i32, i64>, Error> {
        let output = self.output_of(title, &["tail", TOPIC, "--start", "beginning", "-f", "%p\\n"], " | sort | uniq -c").await?;
        let what = || Failure::new("cannot count the records of the topic");
        let mut counts = BTreeMap::new();
        for line in output.lines() {
            let partition = line.parse().map_err(|_| what().because(format!("`{line}` is not a partition")))?;
            *counts.entry(partition).or_insert(0) += 1;
        }
        let lines: Vec<_> = counts.iter().map(|(partition, count)| format!("{count:7} {partition}\n")).collect();
        self.context.print(&lines.concat())?;
        Ok(counts)
    }

    fn command(&self, arguments: &[&str]) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--profile").arg(self.profile.path()).stdin(Stdio::null());
        // Variables of the shell must not affect the demo.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SDL_")) {
            command.env_remove(name);
        }
        Ok(command)
    }
}
