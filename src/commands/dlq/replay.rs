//! `sdl dlq replay`.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{
    DeadLetterTarget, DeliveryArgs, DocumentArgs, ReadArgs, ReportArgs, ShapingArgs, SummaryFormat, TopicArgs, parse_count,
    parse_whole, transform,
};
use crate::commands::dlq::reading::{LettersRead, read_letters, say_read};
use crate::commands::dlq::replay_target::{ReplayDestination, ReplayTarget, flow_of, parse_to, replay_to_topic};
use crate::commands::dlq::select_letters::{LetterPlace, LetterSelectionArgs, LetterSourceArgs};
use crate::commands::dlq::stats::listing;
use crate::commands::session::{Replay, Session};
use crate::commands::{Context, sink_es, sink_mongo};
use crate::connectors::kafka::{OnGap, TopicInfo};
use crate::dlq::{Letter, LetterStats, ReplayRules, SinkFlow};
use crate::error::Error;
use crate::pipeline::{BadRecordPolicy, TransformResult};
use crate::profile::KafkaSection;
use crate::record::{Record, Topic};
use crate::report::counted;
use crate::terminal::{ListingFormat, escape_controls};

/// How many letters a dry run shows before and after shaping.
const MAX_LETTERS_SHOWN: usize = 3;
/// The most characters of a value that it shows.
const MAX_VALUE_SHOWN: usize = 300;

/// Deliver the records of dead letters, once their cause is fixed
///
/// The original record is delivered: its key, value, headers and timestamp, for ids, versions and metadata with its original topic,
/// partition and offset. The shaping flags are the fix. The run ends at the letters that are there now, and resumes with its own
/// group for each source, target and selection: letters that were replayed are not replayed again, and none is deleted.
///
/// A record that fails again becomes a letter again, with its history, in the topic that it came from unless --dead-letters
/// names another. The header `sdl.dlq.replays` counts; a letter that was replayed --max-replays times goes to LETTERS-quarantine.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    source: LetterSourceArgs,
    /// Destination: topic:SECTION/NAME, mongo or es [default: the sink that the letters name in `sdl.dlq.flow`]
    #[arg(long, value_name = "WHERE", value_parser = parse_to)]
    to: Option<ReplayTarget>,
    /// Section of MongoDB, Elasticsearch or OpenSearch [default: mongodb; elasticsearch, or opensearch if only that is there]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    target: Option<String>,
    /// Quarantine a letter that was replayed as often
    #[arg(long, value_name = "N", default_value = "3", value_parser = parse_whole::<u32>(1, 1000))]
    max_replays: u32,
    #[command(flatten)]
    select: LetterSelectionArgs,
    #[command(flatten)]
    read: ReplayReadArgs,
    #[command(flatten, next_help_heading = "Replay to MongoDB")]
    collection: sink_mongo::CollectionArgs,
    #[command(flatten, next_help_heading = "Replay to Elasticsearch or OpenSearch")]
    index: sink_es::IndexArgs,
    #[command(flatten)]
    documents: DocumentArgs,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl dlq replay bad-logins --dry-run              what would be replayed, and where
  sdl dlq replay bad-logins --default device_type=unknown --date timestamp
  sdl dlq replay bad-logins --code wrong_type --to es --target opensearch
  sdl dlq replay connect-dlq --to topic:local_kafka/orders-fixed
  sdl dlq replay bad-logins --to topic:local_kafka/logins --yes      back to the topic they come from";

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reading")]
struct ReplayReadArgs {
    /// Consumer group that keeps the positions [default: sdl-dlq, with source, target and selection]
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    group: Option<String>,
    /// Static membership: after a restart this member gets its partitions back at once
    #[arg(long, value_name = "ID", value_parser = Text::new())]
    instance_id: Option<String>,
    /// Stop after N records, those that are not selected included
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// What to do where letters are missing between the committed position and the partition's log
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_gap: OnGap,
}

/// What would be replayed.
#[derive(Default)]
struct ReplayPreview {
    stats: LetterStats,
    first: Vec<Record>,
}

impl ReplayArgs {
    pub(super) fn reporting(&self) -> ReportArgs {
        self.report.clone()
    }

    /// Replays the letters.
    ///
    /// # Errors
    /// When the letters cannot be read, their destination is not known, or the run fails; see the exit codes.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let place = self.source.place(context)?;
        let LetterPlace::Topic(section, name) = &place else {
            return Err(Error::Usage {
                what: "a file cannot be replayed: it has no positions to resume from".to_owned(),
                hint: "import it into a topic first: sdl dlq import FILE TOPIC".to_owned(),
            });
        };
        let known = self.to.as_ref().map(|to| self.destination(context, to, section)).transpose()?;
        let group = known.as_ref().map(|known| self.group(name, known)).transpose()?;
        let (mut preview, mut read) = self.preview(&place, group.as_deref().or(self.read.group.as_deref())).await?;
        let destination = match known {
            Some(known) => known,
            None if preview.stats.letters == 0 => {
                say_read(context, &read);
                return Ok(());
            }
            None => self.sink_of(context, flow_of(&preview.stats)?)?,
        };
        let group = self.group(name, &destination)?;
        if self.to.is_none() && self.read.group.is_none() {
            // From the positions of the group, which was not known before.
            (preview, read) = self.preview(&place, Some(&group)).await?;
        }
        if preview.stats.letters == 0 {
            if read.records > 0 {
                say_read(context, &read);
            }
            context.say(&format!("nothing to replay: group `{}` has read every dead letter\n", escape_controls(&group)));
            return Ok(());
        }
        if self.report.dry_run && self.report.output == SummaryFormat::Text {
            self.show(context, section, &preview)?;
        }
        let (section, name) = (section.clone(), (*name).to_owned());
        self.deliver(context, *section, &name, destination, group, &preview.stats).await
    }

    /// Returns the letters that would be replayed.
    async fn preview(&self, place: &LetterPlace<'_>, group: Option<&str>) -> Result<(ReplayPreview, LettersRead), Error> {
        let add = |preview: &mut ReplayPreview, record: &Record, letter: &Letter| {
            preview.stats.add(record, letter);
            if preview.first.len() < MAX_LETTERS_SHOWN {
                preview.first.push(record.clone());
            }
            ControlFlow::Continue(())
        };
        read_letters(place, &self.select, group, ReplayPreview::default(), add).await
    }

    /// Returns the group, which reads the letters of this source for this target.
    fn group(&self, letters: &str, destination: &ReplayDestination) -> Result<String, Error> {
        if let Some(group) = &self.read.group {
            return Ok(group.clone());
        }
        let selection = self.select.selection()?.digest().map_or_else(String::new, |digest| format!("-{digest}"));
        Ok(format!("sdl-dlq-{letters}-to-{}{selection}", destination.shown()))
    }

    fn destination(&self, context: &Context, to: &ReplayTarget, letters: &KafkaSection) -> Result<ReplayDestination, Error> {
        match to {
            ReplayTarget::Topic { section, name } => {
                let section = section.as_deref().map_or_else(|| Ok(letters.clone()), |section| context.kafka(section))?;
                Ok(ReplayDestination::Topic { section: Box::new(section), name: name.clone() })
            }
            ReplayTarget::Mongo => {
                let section = self.target.clone().unwrap_or_else(|| "mongodb".to_owned());
                mongo(context, section, self.collection.clone())
            }
            ReplayTarget::Elastic => {
                let section = sink_es::target_section(self.target.as_deref(), &context.profile).to_owned();
                elastic(context, section, self.index.clone())
            }
        }
    }

    /// Returns the destination of a sink's flow, as far as no flag names another.
    fn sink_of(&self, context: &Context, flow: SinkFlow) -> Result<ReplayDestination, Error> {
        match flow {
            SinkFlow::Mongo { section, database, collection } => {
                let args = self.collection.clone();
                let (database, collection) = (args.database.or(Some(database)), args.collection.or(Some(collection)));
                let args = sink_mongo::CollectionArgs { database, collection, ..args };
                mongo(context, self.target.clone().unwrap_or(section), args)
            }
            SinkFlow::Elastic { section, index } => {
                let mut args = self.index.clone();
                args.index.get_or_insert(index);
                elastic(context, self.target.clone().unwrap_or(section), args)
            }
        }
    }

    /// Shows the causes of the letters, and the first of them before and after shaping.
    fn show(&self, context: &Context, section: &KafkaSection, preview: &ReplayPreview) -> Result<(), Error> {
        let shape = self.shaping.build(&context.profile, section.mask_key.as_ref())?.map(transform);
        let mut text = listing(&preview.stats).render(ListingFormat::Table);
        for letter in &preview.first {
            let original = Letter::of(&letter.headers).map_or_else(|| letter.clone(), |read| read.original(letter));
            let value = |record: &Record| shown_value(record.value.as_deref());
            let mut shaped = original.clone();
            let after = match shape.as_ref().map_or(TransformResult::Keep, |shape| shape(&mut shaped)) {
                TransformResult::Keep => value(&shaped),
                TransformResult::Filtered => "(filtered)".to_owned(),
                TransformResult::Bad(reason) => format!("(bad: {})", escape_controls(&reason.to_string())),
            };
            let _ = write!(text, "\n{letter}: {original}\n  before  {}\n  after   {after}\n", value(&original));
        }
        context.print(&text)
    }

    async fn deliver(
        mut self,
        context: &Context,
        section: KafkaSection,
        name: &str,
        destination: ReplayDestination,
        group: String,
        stats: &LetterStats,
    ) -> Result<(), Error> {
        let rules = ReplayRules { selection: self.select.selection()?, max_replays: self.max_replays };
        let info = |(topic, (_, highest)): (&String, &(u64, i32))| TopicInfo {
            topic: Topic::named(topic),
            partitions: highest.saturating_add(1),
        };
        let what = format!("{} of {name} to {}", counted(stats.letters, "dead letter"), destination.shown());
        let replay = Replay { rules, origins: stats.topics.iter().map(info).collect(), what };
        let failure = &mut self.delivery.failure;
        if failure.bad_records() == BadRecordPolicy::Stop {
            // What fails again becomes a letter again.
            let (section, name) = (Some(section.name.clone()), name.to_owned());
            failure.dead_letters = Some(DeadLetterTarget::Topic { section, name });
        }
        let read = ReadArgs {
            topics: TopicArgs { names: vec![name.to_owned()], ..TopicArgs::default() },
            group: Some(group),
            instance_id: self.read.instance_id.clone(),
            start: self.select.start,
            stop: self.select.stop,
            until_caught_up: self.select.stop.is_none(),
            count: self.read.count,
            on_gap: self.read.on_gap,
            ..ReadArgs::default()
        };
        let Self { documents, shaping, delivery, report, .. } = self;
        let source = section.name.clone();
        match destination {
            ReplayDestination::Topic { section: to, name: topic } => {
                let shape = shaping.build(&context.profile, section.mask_key.as_ref())?.map(transform);
                let returning = stats.topics.get(&topic).map_or(0, |(count, _)| *count);
                let args = (&read, &delivery.failure, &report);
                let session = Session::connect(context, "dlq replay", section, args, None).await?;
                let run = (shape, read.count, report.dry_run);
                replay_to_topic(context, session, (&to, &topic), &replay, returning, &delivery, run).await
            }
            ReplayDestination::Mongo { section: target, collection, .. } => {
                let args = sink_mongo::Args { read, source, target, collection, documents, shaping, delivery, report };
                args.load(context, "dlq replay", Some(replay)).await
            }
            ReplayDestination::Elastic { section: target, index, .. } => {
                let target = Some(target);
                let args = sink_es::Args { read, source, target, index, documents, shaping, delivery, report };
                args.load(context, "dlq replay", Some(replay)).await
            }
        }
    }
}

fn mongo(context: &Context, section: String, collection: sink_mongo::CollectionArgs) -> Result<ReplayDestination, Error> {
    let (database, name) = collection.names(&context.mongo(&section)?)?;
    let shown = format!("{section}/{database}.{name}");
    Ok(ReplayDestination::Mongo { section, collection, shown })
}

fn elastic(context: &Context, section: String, index: sink_es::IndexArgs) -> Result<ReplayDestination, Error> {
    let shown = format!("{section}/{}", index.name(&context.elastic(&section)?)?);
    Ok(ReplayDestination::Elastic { section, index, shown })
}

/// Returns a value in one line, cut.
fn shown_value(value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "(null)".to_owned() };
    let text = escape_controls(value).into_owned();
    match text.char_indices().nth(MAX_VALUE_SHOWN) {
        Some((end, _)) => text[..end].to_owned() + "…",
        None => text,
    }
}
