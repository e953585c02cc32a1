//! `sdl dlq list`.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;
use serde_json::json;

use crate::commands::Context;
use crate::commands::args::{glob_advice, is_internal, parse_pattern};
use crate::commands::dlq::reading::{CONNECT_TIMEOUT, scan};
use crate::commands::dlq::stats::time;
use crate::connectors::kafka::{OffsetSpec, ScanRange, Scanner};
use crate::dlq::{LetterSelection, LetterStats};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::terminal::{Cell, Column, Listing, ListingFormat};

/// How many of the last offsets of a partition are searched for a letter: some have no record.
const LAST_OFFSETS: i64 = 10;
/// The most codes that a row of the table names.
const MAX_CODES_SHOWN: usize = 4;

/// List the topics that hold dead letters, with the number of each code
///
/// A topic counts if there is a letter among the last records of a partition. Its letters are then read and counted. FIRST and LAST
/// are times of records. Joins no group and commits nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Look only at topics whose whole name matches this regular expression
    #[arg(value_name = "PATTERN", value_parser = parse_pattern)]
    pattern: Option<Regex>,
    /// The profile's Kafka section to query; may be repeated [default: all]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    source: Vec<String>,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListingFormat,
}

const EXAMPLES: &str = "\
Examples:
  sdl dlq list
  sdl dlq list '.*-dlq' --source remote_kafka -o json";

impl ListArgs {
    /// Prints the topics.
    ///
    /// # Errors
    /// When a section is wrong, or a cluster cannot be read; the others are listed.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let clusters = context.kafka_clusters(&self.source)?;
        let mut listing = empty_listing();
        let mut errors = Vec::new();
        for section in &clusters {
            match found(section, self.pattern.clone()).await {
                Ok(topics) => {
                    if topics.is_empty() {
                        let advice = self.pattern.as_ref().map_or_else(String::new, glob_advice);
                        context.say(&format!("no topic on `{}` holds dead letters{advice}\n", section.name));
                    }
                    for (topic, stats) in topics {
                        listing.push(row(&section.name, topic, &stats));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        listing.hide_in_table(|name, _| name == "section" && clusters.len() == 1);
        if self.output != ListingFormat::Table || !listing.is_empty() {
            context.print_listing(listing, self.output, &["first"])?;
        }
        let last = errors.pop();
        for error in errors {
            context.say(&error.render());
        }
        last.map_or(Ok(()), Err)
    }

    pub(super) fn surveys_every_cluster(&self) -> bool {
        self.source.is_empty()
    }
}

/// Returns the topics of a cluster that hold dead letters, with their letters.
async fn found(section: &KafkaSection, pattern: Option<Regex>) -> Result<BTreeMap<Topic, LetterStats>, Error> {
    let mut scanner = Scanner::connect(section, None, false, CONNECT_TIMEOUT).await?;
    let searching = tokio::task::spawn_blocking(move || {
        let is_meant = |name: &str| !is_internal(name) && pattern.as_ref().is_none_or(|pattern| pattern.is_match(name));
        let topics = scanner.topics()?.into_iter().filter(|topic| is_meant(topic.topic.name()));
        let partitions: Vec<Partition> =
            topics.flat_map(|topic| (0..topic.partitions).map(move |index| Partition { topic: topic.topic, index })).collect();
        let (low, end) = (scanner.ends(&partitions, OffsetSpec::Start)?, scanner.reachable(&partitions)?);
        let at = |of: &HashMap<Partition, i64>, partition: &Partition| of.get(partition).copied().unwrap_or(0);
        let range = |partition: &Partition, last: i64| {
            let to = at(&end, partition);
            ScanRange { partition: *partition, from: to.saturating_sub(last).max(at(&low, partition)), to }
        };
        let mut stats: BTreeMap<Topic, LetterStats> = BTreeMap::new();
        let last: Vec<ScanRange> = partitions.iter().map(|partition| range(partition, LAST_OFFSETS)).collect();
        scan(&mut scanner, &last, &LetterSelection::default(), |record, _| {
            stats.entry(record.partition.topic).or_default();
            ControlFlow::Continue(())
        })?;
        let all: Vec<ScanRange> = partitions
            .iter()
            .filter(|partition| stats.contains_key(&partition.topic))
            .map(|partition| range(partition, i64::MAX))
            .collect();
        scan(&mut scanner, &all, &LetterSelection::default(), |record, letter| {
            stats.entry(record.partition.topic).or_default().add(record, letter);
            ControlFlow::Continue(())
        })?;
        Ok(stats)
    });
    searching.await.map_err(|error| Failure::new("the topics could not be read").because(error))?
}

fn empty_listing() -> Listing {
    let columns = [
        Column::Text("section"),
        Column::Text("topic"),
        Column::Number("letters"),
        Column::Text("codes"),
        Column::Text("from_topics"),
        Column::Text("written_by"),
        Column::Text("first"),
        Column::Text("last"),
    ];
    Listing::new("topics", &columns)
}

fn row(section: &str, topic: Topic, stats: &LetterStats) -> [Cell; 8] {
    let codes = stats.codes();
    let mut shown: Vec<String> = codes.iter().take(MAX_CODES_SHOWN).map(|(code, count)| format!("{code} {count}")).collect();
    match codes.len() - shown.len() {
        0 => {}
        more => shown.push(format!("{more} more")),
    }
    let counts: serde_json::Map<String, serde_json::Value> =
        codes.iter().map(|(code, count)| (code.clone(), json!(count))).collect();
    let origins: Vec<&str> = stats.topics.keys().map(String::as_str).collect();
    let writers: Vec<&str> = stats.writers.iter().map(|writer| writer.name()).collect();
    let (first, last) = stats.times();
    [
        section.into(),
        topic.name().into(),
        i64::try_from(stats.letters).unwrap_or(i64::MAX).into(),
        Cell::Display(shown.join(", "), json!(counts)),
        Cell::Display(if origins.is_empty() { "-".to_owned() } else { origins.join(", ") }, json!(origins)),
        Cell::Display(writers.join(", "), json!(writers)),
        time(first),
        time(last),
    ]
}
