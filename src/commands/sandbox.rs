//! `sdl sandbox`: the embedded brokers for other processes.

use std::path::PathBuf;

use crate::commands::embedded::{Embedded, TemporaryFile};
use crate::commands::{Context, run};
use crate::error::Error;

/// Run two embedded Kafka clusters until Ctrl-C, to play with
///
/// No server or network is needed. The profile for them goes to standard output and into a file, and command lines to try to
/// standard error. They are librdkafka's own test brokers and serve clients that are built on it: sdl, kcat, and those of Confluent
/// for Python, Go and .NET; not Kafka's Java tools. They keep at most 5 MiB of a partition, in memory, and know no transactions, no offsets by time and no
/// administration.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Topics to create on both clusters, with so many partitions or 4
    #[arg(value_name = "TOPIC[:PARTITIONS]", default_value = "user-login", value_parser = topic)]
    topics: Vec<TopicSpec>,
    /// Write the profile into this file instead of a temporary one; it is there once the clusters are, and as long
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TopicSpec {
    name: String,
    partitions: i32,
}

fn topic(text: &str) -> Result<TopicSpec, String> {
    let (name, partitions) = match text.split_once(':') {
        Some((name, partitions)) => (name, partitions.parse().ok()),
        None => (text, Some(4)),
    };
    // The rule of Kafka itself.
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(sound) {
        return Err("a topic's name has up to 249 letters, digits, dots, underscores and dashes".to_owned());
    }
    let partitions = partitions.filter(|count| (1..=1000).contains(count)).ok_or("a topic has 1 to 1000 partitions here")?;
    Ok(TopicSpec { name: name.to_owned(), partitions })
}

impl Args {
    /// Runs the command until it is interrupted.
    ///
    /// # Errors
    /// When the brokers cannot listen, a topic cannot be created, or the profile cannot be written.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let mut stop = run::stop_signal()?;
        let first = self.topics[0].name.as_str();
        let clusters = Embedded::start("sandbox", first)?;
        for TopicSpec { name, partitions } in &self.topics {
            clusters.create_topic(name, *partitions)?;
        }
        let profile = clusters.profile();
        let file = TemporaryFile::write(self.file.clone(), "sandbox", &profile)?;
        context.print(&profile)?;
        let (remote, local) = (&clusters.remote.servers, &clusters.local.servers);
        context.say(&format!(
            "
Two Kafka clusters are running in this process. Ctrl-C ends them, and what they hold is gone.
In another terminal:

  export SDL_PROFILE={}
  sdl produce-fake {first} --target remote_kafka -n 20000
  sdl replicate --until-caught-up
  sdl tail -n 3
  sdl lag sandbox
  kcat -b {remote} -L                     # remote_kafka
  kcat -b {local} -t {first} -C -e -q     # local_kafka

",
            file.path().display()
        ));
        // The sender lives as long as the process.
        let _ = stop.wait_for(|stop| *stop).await;
        context.say("The clusters are gone.\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_a_name_and_partitions() {
        let read = |text: &str| topic(text).map(|topic| (topic.name, topic.partitions));
        assert_eq!(read("orders"), Ok(("orders".to_owned(), 4)));
        assert_eq!(read("a.b_c-d:12"), Ok(("a.b_c-d".to_owned(), 12)));
        for text in ["", ":3", "a:", "a:0", "a:-1", "a:1001", "a:b", "a b", "..", "a/b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
