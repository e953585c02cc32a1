//! `sdl demo`: the whole story on embedded brokers.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::commands::Context;
use crate::commands::embedded::{Embedded, TemporaryFile};
use crate::connectors::kafka::{PartitionDigest, topic_digest};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Partition;
use crate::terminal::{Cell, Column, Listing, ListingFormat};

mod sinks;

use sinks::DemoSink;

/// How many events the demo is about.
const EVENTS: &str = "20000";
/// How many partitions their topic has.
const PARTITIONS: i32 = 4;
/// What the demo's topic is called.
const TOPIC: &str = "user-login";
/// Where they are counted by window.
const WINDOWS: &str = "user-login-processed";

/// See it work: fake logins, copied between two embedded clusters, and every record accounted for
///
/// No server, profile or network is needed: the brokers live in this process. Each step is the command that would do it for
/// real, run as its own process, with its own output.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Also load the copy into this MongoDB: `mongodb://HOST:PORT`, with user and password if it wants them
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
    /// When a step fails, or the accounts do not agree at the end.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let places: Vec<DemoSink> =
            [self.mongo.map(DemoSink::mongo), self.es.as_deref().map(DemoSink::elastic)].into_iter().flatten().collect();
        for place in &places {
            place.reach().await?;
        }
        let clusters = Embedded::start("demo", TOPIC)?;
        clusters.create_topic(TOPIC, PARTITIONS)?;
        clusters.create_topic(WINDOWS, 1)?;
        let sections: String = places.iter().map(DemoSink::section).collect();
        let profile = TemporaryFile::write(None, "demo", &format!("{}{sections}", clusters.profile()))?;
        context.say("Two Kafka clusters live in this process for as long as the demo runs.\n");

        let steps: [(&str, &[&str]); 5] = [
            (
                "Fake logins go into the first cluster.",
                &["produce-fake", TOPIC, "--target", "remote_kafka", "-n", EVENTS, "--seed", "7"],
            ),
            ("The topic is copied to the second cluster, up to its present end.", &["replicate", TOPIC, "--until-caught-up"]),
            (
                "The copy is counted in windows of ten seconds, each published together with the offsets that it was made of.",
                &["aggregate", TOPIC, "--until-caught-up"],
            ),
            ("This is what has arrived last.", &["tail", TOPIC, "-n", "3", "--keep", "user_id,device_type,locale,ip"]),
            ("How far is the group that copied it behind?", &["lag", "demo", "--source", "remote_kafka"]),
        ];
        let sdl = Sdl { context, profile };
        for (story, arguments) in steps {
            sdl.step(story, arguments).await?;
        }
        for place in &places {
            sdl.step(place.story(), &place.arguments(TOPIC)).await?;
        }
        let counted = sdl.count("Who trusts no tool counts the lines, here by partition.").await?;
        let aggregated = sdl.aggregated("And this is what the windows say.").await?;
        let (east, west) = (clusters.remote.clone(), clusters.local.clone());
        let (produced, replicated) = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>((topic_digest(&east, TOPIC, PARTITIONS)?, topic_digest(&west, TOPIC, PARTITIONS)?))
        })
        .await
        .map_err(|error| Failure::new("cannot read the topics").because(error))??;
        let mut loaded = Vec::new();
        for place in &places {
            loaded.push((place.name(), place.count(PARTITIONS).await?));
        }

        context.say("\nBoth topics were read once more, and compared record by record:\n");
        let accounts = Accounts { produced, replicated, aggregated, counted, loaded };
        context.print(&accounts.listing().render(ListingFormat::Table))?;
        if !accounts.agree() {
            return Err(Failure::new(format!("the accounts do not agree: {EVENTS} events were sent")).into());
        }
        for place in &places {
            context.say(&place.leave());
        }
        context.say(
            "\nNext: `sdl sandbox` keeps such clusters running to play with; `sdl profile init` writes a profile for your own.\n",
        );
        Ok(())
    }
}

/// What was counted where, by partition.
struct Accounts {
    produced: BTreeMap<Partition, PartitionDigest>,
    replicated: BTreeMap<Partition, PartitionDigest>,
    /// In all windows, whatever the partition.
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

    /// Returns whether a partition is the same everywhere.
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

    /// Returns whether everything that was sent is everywhere.
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

/// The commands of the demo, each a process of its own.
struct Sdl<'a> {
    context: &'a Context,
    profile: TemporaryFile,
}

impl Sdl<'_> {
    /// Shows a command line and runs it.
    async fn step<A: AsRef<str>>(&self, story: &str, arguments: &[A]) -> Result<(), Error> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        self.context.say(&format!("\n{story}\n$ sdl {}\n", arguments.join(" ")));
        let what = || Failure::new(format!("the step `sdl {}` failed", arguments.join(" ")));
        let mut command = self.command(&arguments).map_err(|error| what().because(error))?;
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let status = status.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if status.success() { Ok(()) } else { Err(what().because(status).into()) }
    }

    /// Returns how many events the windows say there were.
    async fn aggregated(&self, story: &str) -> Result<i64, Error> {
        let said = self.said(story, &["tail", WINDOWS, "--start", "beginning", "-f", "%s\\n"], "").await?;
        self.context.print(&said)?;
        let events = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["interval_messages_consumed"].as_i64();
        let windows: Option<Vec<i64>> = said.lines().map(events).collect();
        windows.map(|windows| windows.iter().sum()).ok_or_else(|| Failure::new("the windows cannot be read").into())
    }

    /// Shows a command line with what follows it in a pipe, runs it, and returns what it says.
    async fn said(&self, story: &str, arguments: &[&str], pipe: &str) -> Result<String, Error> {
        let shown = arguments.join(" ").replace("%p\\n", "'%p\\n'").replace("%s\\n", "'%s\\n'");
        self.context.say(&format!("\n{story}\n$ sdl {shown}{pipe}\n"));
        let what = || Failure::new("the topic could not be counted");
        let mut command = self.command(arguments).map_err(|error| what().because(error))?;
        let output = tokio::task::spawn_blocking(move || command.stderr(Stdio::inherit()).output()).await;
        let output = output.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if !output.status.success() {
            return Err(what().because(output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Counts the records of the copy by partition, as a pipe would.
    async fn count(&self, story: &str) -> Result<BTreeMap<i32, i64>, Error> {
        let said = self.said(story, &["tail", TOPIC, "--start", "beginning", "-f", "%p\\n"], " | sort | uniq -c").await?;
        let what = || Failure::new("the topic could not be counted");
        let mut counts = BTreeMap::new();
        for line in said.lines() {
            let partition = line.parse().map_err(|_| what().because(format!("`{line}` is no partition")))?;
            *counts.entry(partition).or_insert(0) += 1;
        }
        let lines: Vec<_> = counts.iter().map(|(partition, count)| format!("{count:7} {partition}\n")).collect();
        self.context.print(&lines.concat())?;
        Ok(counts)
    }

    fn command(&self, arguments: &[&str]) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--profile").arg(self.profile.path()).stdin(Stdio::null());
        // Variables of the shell must not reach into the demo.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SDL_")) {
            command.env_remove(name);
        }
        Ok(command)
    }
}
