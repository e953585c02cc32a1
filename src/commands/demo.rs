//! `sdl demo`: the whole story on embedded brokers.

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

/// See it work: fake logins, copied from one embedded cluster to another, and every record accounted for
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

        let steps: [(&str, &[&str]); 2] = [
            (
                "Fake logins go into the first cluster.",
                &["produce-fake", TOPIC, "--target", "remote_kafka", "-n", EVENTS, "--seed", "7"],
            ),
            ("The topic is copied to the second cluster, up to its present end.", &["replicate", TOPIC, "--until-caught-up"]),
        ];
        for (story, arguments) in steps {
            self.step(context, &profile, story, arguments).await?;
        }
        let (east, west) = (clusters.remote.clone(), clusters.local.clone());
        let (produced, replicated) = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>((take_stock(&east, TOPIC, PARTITIONS)?, take_stock(&west, TOPIC, PARTITIONS)?))
        })
        .await
        .map_err(|error| Failure::new("cannot read the topics").because(error))??;

        context.say("\nBoth topics were read once more, record by record:\n");
        let mut table = Listing::new(
            "partitions",
            &[Column::Text("partition"), Column::Number("produced"), Column::Number("replicated"), Column::Text("same")],
        );
        let (mut here, mut there) = (0, 0);
        for (partition, first) in &produced {
            let second = replicated.get(partition).copied().unwrap_or_default();
            let (sent, got) = (first.records.cast_signed(), second.records.cast_signed());
            (here, there) = (here + sent, there + got);
            table.push([
                Cell::from(partition.to_string().as_str()),
                sent.into(),
                got.into(),
                if *first == second { "yes" } else { "NO" }.into(),
            ]);
        }
        let same = produced == replicated && here.to_string() == EVENTS;
        table.push([Cell::from("all"), here.into(), there.into(), if same { "yes" } else { "NO" }.into()]);
        context.print(&table.render(Format::Table))?;
        if !same {
            return Err(
                Failure::new(format!("the accounts do not agree: {EVENTS} sent, {here} produced, {there} replicated")).into()
            );
        }
        context.say("\nNext: `sdl profile init` writes a profile for your own clusters.\n");
        Ok(())
    }

    /// Shows a command line and runs it.
    async fn step(&self, context: &Context, profile: &TemporaryFile, story: &str, arguments: &[&str]) -> Result<(), Error> {
        context.say(&format!("\n{story}\n$ sdl {}\n", arguments.join(" ")));
        let what = || Failure::new(format!("the step `sdl {}` failed", arguments.join(" ")));
        let program = std::env::current_exe().map_err(|error| what().because(error))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--profile").arg(profile.path()).stdin(Stdio::null());
        // Variables of the shell must not reach into the demo.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SDL_")) {
            command.env_remove(name);
        }
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let status = status.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if status.success() { Ok(()) } else { Err(what().because(status).into()) }
    }
}
