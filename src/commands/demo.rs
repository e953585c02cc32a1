//! `sdl demo`: the whole story on embedded brokers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::commands::Context;
use crate::connectors::kafka::{EmbeddedCluster, take_stock};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;
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
        let (east, west) = (EmbeddedCluster::start(1)?, EmbeddedCluster::start(1)?);
        for cluster in [&east, &west] {
            cluster.create_topic(TOPIC, PARTITIONS)?;
        }
        let section = |name: &str, cluster: &EmbeddedCluster| KafkaSection {
            name: name.to_owned(),
            servers: cluster.servers(),
            ..KafkaSection::default()
        };
        let (east, west) = (section("remote_kafka", &east), section("local_kafka", &west));
        let profile = TemporaryProfile::write(&[&east, &west])?;
        context.say("Two Kafka clusters live in this process for as long as the demo runs.\n")?;

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
        let (produced, replicated) = tokio::task::spawn_blocking(move || {
            Ok::<_, Error>((take_stock(&east, TOPIC, PARTITIONS)?, take_stock(&west, TOPIC, PARTITIONS)?))
        })
        .await
        .map_err(|error| Failure::new("cannot read the topics").because(error))??;

        context.say("\nBoth topics were read once more, record by record:\n")?;
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
        context.say("\nNext: `sdl profile init` writes a profile for your own clusters.\n")
    }

    /// Shows a command line and runs it.
    async fn step(&self, context: &Context, profile: &TemporaryProfile, story: &str, arguments: &[&str]) -> Result<(), Error> {
        context.say(&format!("\n{story}\n$ sdl {}\n", arguments.join(" ")))?;
        let what = || Failure::new(format!("the step `sdl {}` failed", arguments.join(" ")));
        let program = std::env::current_exe().map_err(|error| what().because(error))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--profile").arg(&profile.0).stdin(Stdio::null());
        // Variables of the shell must not reach into the demo.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SDL_")) {
            command.env_remove(name);
        }
        let status = tokio::task::spawn_blocking(move || command.status()).await;
        let status = status.map_err(|error| what().because(error))?.map_err(|error| what().because(error))?;
        if status.success() { Ok(()) } else { Err(what().because(status).into()) }
    }
}

/// A profile for the embedded clusters, removed when dropped.
struct TemporaryProfile(PathBuf);

impl TemporaryProfile {
    fn write(sections: &[&KafkaSection]) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("sdl-demo-{}-{:08x}.ini", std::process::id(), super::run::random()));
        let section = |section: &&KafkaSection| {
            format!("[{}]\nservers = {}\ndefault_consumer_group_id = demo\n", section.name, section.servers)
        };
        let text: String = sections.iter().map(section).collect();
        write_private(&path, &text).map_err(|error| {
            Failure::new(format!("cannot write `{}`", path.display()))
                .because(error)
                .hint("set TMPDIR to a directory that can be written to")
        })?;
        Ok(Self(path))
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

impl Drop for TemporaryProfile {
    fn drop(&mut self) {
        // A file that is left behind in the temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}
