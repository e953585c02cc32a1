//! `sdl demo`: the whole story on embedded brokers.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::commands::Context;
use crate::commands::embedded::{Embedded, TemporaryFile};
use crate::connectors::kafka::take_stock;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::terminal::{Cell, Column, Format, Listing};

/// How many events the demo is about.
const EVENTS: &str = "20000";
/// How many partitions their topic has.
const PARTITIONS: i32 = 4;
/// What the demo's topic is called.
const TOPIC: &str = "user-login";

/// See it work: fake logins, copied between two embedded clusters, and every record accounted for
///
/// No server, profile or network is needed: the brokers live in this process. Each step is the command that would do it for
/// real, run as its own process, with its own output.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When a step fails, or the accounts do not agree at the end.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let clusters = Embedded::start("demo", TOPIC)?;
        clusters.create_topic(TOPIC, PARTITIONS)?;
        let profile = TemporaryFile::write(None, "demo", &clusters.profile())?;
        context.say("Two Kafka clusters live in this process for as long as the demo runs.\n");

        let steps: [(&str, &[&str]); 4] = [
            (
                "Fake logins go into the first cluster.",
                &["produce-fake", TOPIC, "--target", "remote_kafka", "-n", EVENTS, "--seed", "7"],
            ),
            ("The topic is copied to the second cluster, up to its present end.", &["replicate", TOPIC, "--until-caught-up"]),
            ("This is what has arrived last.", &["tail", TOPIC, "-n", "3", "--keep", "user_id,device_type,locale,ip"]),
            ("How far is the group that copied it behind?", &["lag", "demo", "--source", "remote_kafka"]),
        ];
        let sdl = Sdl { context, profile };
        for (story, arguments) in steps {
            sdl.step(story, arguments).await?;
        }
        let counted = sdl.count("Who trusts no tool counts the lines, here by partition.").await?;
        let (east, west) = (clusters.remote.clone(), clusters.local.clone());
        let (produced, replicated) = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>((take_stock(&east, TOPIC, PARTITIONS)?, take_stock(&west, TOPIC, PARTITIONS)?))
        })
        .await
        .map_err(|error| Failure::new("cannot read the topics").because(error))??;

        context.say("\nBoth topics were read once more, and compared record by record:\n");
        let columns = [
            Column::Text("partition"),
            Column::Number("produced"),
            Column::Number("replicated"),
            Column::Number("counted"),
            Column::Text("same"),
        ];
        let mut table = Listing::new("partitions", &columns);
        let mut sums = [0; 3];
        let mut same = true;
        let yes = |same| if same { "yes" } else { "NO" };
        for (partition, first) in &produced {
            let second = replicated.get(partition).copied().unwrap_or_default();
            let lines = counted.get(&partition.index).copied().unwrap_or(0);
            let numbers = [first.records.cast_signed(), second.records.cast_signed(), lines];
            let alike = *first == second && numbers[2] == numbers[1];
            same &= alike;
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            let [produced, replicated, counted] = numbers.map(Cell::from);
            table.push([Cell::from(partition.to_string().as_str()), produced, replicated, counted, yes(alike).into()]);
        }
        same &= sums.iter().all(|sum| sum.to_string() == EVENTS);
        let [produced, replicated, counted] = sums.map(Cell::from);
        table.push(["all".into(), produced, replicated, counted, yes(same).into()]);
        context.print(&table.render(Format::Table))?;
        if !same {
            let [produced, replicated, counted] = sums;
            let numbers = format!("{EVENTS} sent, {produced} produced, {replicated} replicated, {counted} counted");
            return Err(Failure::new(format!("the accounts do not agree: {numbers}")).into());
        }
        context.say(
            "\nNext: `sdl sandbox` keeps such clusters running to play with; `sdl profile init` writes a profile for your own.\n",
        );
        Ok(())
    }
}

/// The commands of the demo, each a process of its own.
struct Sdl<'a> {
    context: &'a Context,
    profile: TemporaryFile,
}

impl Sdl<'_> {
    /// Shows a command line and runs it.
    async fn step(&self, story: &str, arguments: &[&str]) -> Result<(), Error> {
        self.context.say(&format!("\n{story}\n$ sdl {}\n", arguments.join(" ")));
        let what = || Failure::new(format!("the step `sdl {}` failed", arguments.join(" ")));
        let mut command = self.command(arguments).map_err(|error| what().because(error))?;
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let status = status.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if status.success() { Ok(()) } else { Err(what().because(status).into()) }
    }

    /// Counts the records of the copy by partition, as a pipe would.
    async fn count(&self, story: &str) -> Result<BTreeMap<i32, i64>, Error> {
        self.context.say(&format!("\n{story}\n$ sdl tail {TOPIC} --start beginning -f '%p\\n' | sort | uniq -c\n"));
        let what = || Failure::new("the topic could not be counted");
        let mut command =
            self.command(&["tail", TOPIC, "--start", "beginning", "-f", "%p\\n"]).map_err(|error| what().because(error))?;
        let output = tokio::task::spawn_blocking(move || command.stderr(Stdio::inherit()).output()).await;
        let output = output.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if !output.status.success() {
            return Err(what().because(output.status).into());
        }
        let mut counts = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
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
