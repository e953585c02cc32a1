//! `sdl sandbox`.

use std::path::PathBuf;

use crate::commands::Context;
use crate::commands::embedded::{Embedded, TemporaryFile};
use crate::error::Error;
use crate::replication::MAP_TOPIC;

/// Run two embedded Kafka clusters until interrupted, for experiments
///
/// Needs no server and no network. Writes a profile for the clusters to stdout and into a file, and command lines to try to stderr.
/// The brokers are librdkafka's mock brokers. They serve clients that are built on librdkafka: sdl, kcat, and Confluent's clients
/// for Python, Go and .NET; not Kafka's Java tools. They keep at most 5 MiB per partition, in memory, and support neither
/// offsets by time nor admin requests. They accept transactions, do not isolate them and lose their offsets: `aggregate` counts each
/// window again in its next run. Their groups take up to 5 s to rebalance, also after a restart, and `offsets` changes only those
/// that never had members. No command can create a topic there: name each one, such as the target of `aggregate` and the topic of
/// dead letters.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Topics to create on both clusters [default partitions: 4]
    #[arg(value_name = "TOPIC[:PARTITIONS]", default_value = "user-login", value_parser = parse_topic)]
    topics: Vec<TopicSpec>,
    /// Write the profile into this file instead of a temporary one; the file exists while the clusters run
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TopicSpec {
    name: String,
    partitions: i32,
}

fn parse_topic(text: &str) -> Result<TopicSpec, String> {
    let (name, partitions) = match text.split_once(':') {
        Some((name, partitions)) => (name, partitions.parse().ok()),
        None => (text, Some(4)),
    };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(is_legal) {
        return Err("not a valid topic name: use up to 249 letters, digits, dots, underscores and dashes".to_owned());
    }
    let partitions = partitions.filter(|count| (1..=1000).contains(count)).ok_or("the number of partitions must be 1 to 1000")?;
    Ok(TopicSpec { name: name.to_owned(), partitions })
}

impl Args {
    /// Runs the command until it is interrupted.
    ///
    /// # Errors
    /// When the brokers cannot listen, a topic cannot be created, or the profile cannot be written.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let mut stop = context.stop.receiver();
        let first = self.topics[0].name.as_str();
        let clusters = Embedded::start("sandbox", first)?;
        for TopicSpec { name, partitions } in &self.topics {
            clusters.create_topic(name, *partitions)?;
        }
        clusters.create_topic(MAP_TOPIC, 1)?;
        let profile = clusters.profile();
        let file = TemporaryFile::write(self.file.clone(), "sandbox", &profile)?;
        context.print(&profile)?;
        let (remote, local) = (&clusters.remote.servers, &clusters.local.servers);
        context.say(&format!(
            "
Two Kafka clusters are running in this process. Ctrl-C ends them and deletes their records.
In another terminal:

  export SDL_PROFILE={}
  sdl produce-fake {first} --target remote_kafka -n 20000
  sdl replicate --until-caught-up
  sdl tail -n 3
  sdl lag sandbox
  kcat -b {remote} -L                     # remote_kafka
  kcat -b {local} -t {first} -C -e -q     # local_kafka

",
            std::path::absolute(file.path()).unwrap_or_else(|_| file.path().to_owned()).display()
        ));
        let _ = stop.wait_for(|stop| *stop).await;
        context.say("The clusters have ended.\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_argument_has_a_name_and_partitions() {
        let read = |text: &str| parse_topic(text).map(|topic| (topic.name, topic.partitions));
        assert_eq!(read("orders"), Ok(("orders".to_owned(), 4)));
        assert_eq!(read("a.b_c-d:12"), Ok(("a.b_c-d".to_owned(), 12)));
        for text in ["", ":3", "a:", "a:0", "a:-1", "a:1001", "a:b", "a b", "..", "a/b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
