//! `sdl dlq replay`.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{
    DeadLetterTarget, DeliveryArgs, DocumentArgs, NewTopic, ReadArgs, ReportArgs, ShapingArgs, SummaryFormat, TopicArgs,
    dry_transform, parse_count, parse_whole, transform,
};
use crate::commands::dlq::reading::{LetterGroup, LettersRead, earlier_letters, read_letters, say_nothing_to_replay};
use crate::commands::dlq::replay_target::{ReplayDestination, ReplayTarget, Returning, flow_of, parse_to, replay_to_topic};
use crate::commands::dlq::select_letters::{LetterPlace, LetterSelectionArgs, LetterSourceArgs};
use crate::commands::dlq::stats::listing;
use crate::commands::session::{Replay, Session};
use crate::commands::{Context, sink_es, sink_mongo};
use crate::connectors::kafka::{OnGap, Pos, TopicInfo};
use crate::dlq::{Letter, LetterStats, NewestLetters, QUARANTINE, ReplayRules, SinkFlow};
use crate::error::Error;
use crate::pipeline::{BadRecordPolicy, Refused, TransformResult};
use crate::profile::KafkaSection;
use crate::record::{Record, Topic};
use crate::report::{counted, were};
use crate::terminal::{ListingFormat, escape_controls};

/// How many letters a dry run shows before and after shaping.
const MAX_LETTERS_SHOWN: usize = 3;
/// The most characters of a value that it shows.
const MAX_VALUE_SHOWN: usize = 300;

/// Deliver the records of dead letters, once their cause is fixed
///
/// The original record is delivered: its key, value, headers and timestamp, for ids, versions and metadata with its original topic,
/// partition and offset. The shaping flags are the fix. The run ends at the letters that are there now, and resumes with its own
/// group for each source, target and selection: letters that were replayed are not replayed again, and none is deleted. --start and
/// --stop select, too; --start beginning replays everything again.
///
/// A record that fails again becomes a letter again, with its history, in the topic that it came from unless --dead-letters
/// names another. Of the letters of a record, only the newest is replayed. The header `sdl.dlq.replays` counts; a letter that was replayed --max-replays times goes to LETTERS-quarantine.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    source: LetterSourceArgs,
    /// Destination: topic:SECTION/NAME, mongo or es [default: the sink that the letters name in `sdl.dlq.flow`]
    #[arg(long, value_name = "WHERE", value_parser = parse_to)]
    to: Option<ReplayTarget>,
    /// Create the topic of --to with this number of partitions and replicas if it does not exist
    #[arg(long, value_name = "PARTITIONS:REPLICATION")]
    create: Option<NewTopic>,
    /// Section of MongoDB, Elasticsearch or OpenSearch [default: mongodb; elasticsearch, or opensearch if only that is there]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    target: Option<String>,
    /// Quarantine a letter that was replayed as often
    #[arg(long, value_name = "N", default_value = "3", value_parser = parse_whole::<u32>(1, MOST_REPLAYS.into()))]
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
  sdl dlq replay connect-dlq --to topic:local_kafka/orders-fixed --create 6:1
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
struct ReplayPreview {
    stats: LetterStats,
    newest: NewestLetters,
    first: Vec<Record>,
    /// The letters that were replayed too often, and the most replays of one.
    too_often: u64,
    most_replays: u32,
}

impl ReplayPreview {
    /// Returns what is replayed: "20 dead letters of x".
    fn line(&self, letters: &str) -> String {
        let all = counted(self.stats.letters, "dead letter");
        match self.newest.earlier() {
            0 => format!("{all} of {letters}"),
            earlier => {
                let records = counted(self.stats.letters - earlier, "record");
                format!("{records} of {all} of {letters} ({})", earlier_letters(earlier))
            }
        }
    }
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
        if self.create.is_some() && !matches!(self.to, Some(ReplayTarget::Topic { .. })) {
            let what = "--create is for a topic, and --to does not name one".to_owned();
            return Err(Error::Usage { what, hint: "add --to topic:SECTION/NAME, or omit --create".to_owned() });
        }
        let known = self.to.as_ref().map(|to| self.destination(context, to, section)).transpose()?;
        let group = known.as_ref().map(|known| self.group(name, known)).transpose()?;
        let (mut preview, mut read) = self.preview(&place, group.as_deref().or(self.read.group.as_deref())).await?;
        let destination = match known {
            Some(known) => known,
            None if preview.stats.letters == 0 => {
                say_nothing_to_replay(context, &read, self.read.group.as_deref());
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
            say_nothing_to_replay(context, &read, Some(&group));
            return Ok(());
        }
        if name.ends_with(QUARANTINE) && preview.too_often > 0 {
            return Err(quarantined_again(&preview, self.max_replays));
        }
        let (section, name) = (section.clone(), (*name).to_owned());
        Box::pin(self.deliver(context, *section, &name, destination, group, preview)).await
    }

    /// Returns the letters that would be replayed.
    async fn preview(&self, place: &LetterPlace<'_>, group: Option<&str>) -> Result<(ReplayPreview, LettersRead), Error> {
        let max_replays = self.max_replays;
        let add = move |preview: &mut ReplayPreview, record: &Record, letter: &Letter| {
            preview.stats.add(record, letter);
            preview.too_often += u64::from(letter.replays >= max_replays);
            preview.most_replays = letter.replays.max(preview.most_replays);
            preview.newest.add(record, letter);
            if preview.first.len() < MAX_LETTERS_SHOWN {
                preview.first.push(record.clone());
            }
            ControlFlow::Continue(())
        };
        // A start that moves on until the run begins may leave out a later letter in another partition.
        let moves = matches!(self.select.start, Some(Pos::End | Pos::BeforeEnd(_) | Pos::Ago(_)));
        let (stats, newest) = (LetterStats::default(), NewestLetters::new(!moves));
        let preview = ReplayPreview { stats, newest, first: Vec::new(), too_often: 0, most_replays: 0 };
        let group = group.map(|name| LetterGroup { name, goes_on: self.goes_on() });
        read_letters(place, &self.select, group, preview, add).await
    }

    /// Returns whether the run goes on where its group is, also if a start is requested: the group is that of the start, which selects
    /// letters. A group that is named begins at the start, as in every command.
    fn goes_on(&self) -> bool {
        self.read.group.is_none() && !self.select.starts_over()
    }

    /// Returns the group, which reads the letters of this source for this target.
    fn group(&self, letters: &str, destination: &ReplayDestination) -> Result<String, Error> {
        if let Some(group) = &self.read.group {
            return Ok(group.clone());
        }
        // A replay of some letters must not move the group of all of them: the others would never be replayed.
        let bounds = self.select.bounds();
        let selection =
            self.select.selection()?.digest(bounds.as_deref()).map_or_else(String::new, |digest| format!("-{digest}"));
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

    /// Returns the causes of the letters, and the first of them before and after shaping.
    fn shown(&self, context: &Context, section: &KafkaSection, preview: &ReplayPreview) -> Result<String, Error> {
        let shape = self.shaping.build(&context.profile, section.mask_key.as_ref())?.map(dry_transform);
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
        Ok(text)
    }

    async fn deliver(
        mut self,
        context: &Context,
        section: KafkaSection,
        name: &str,
        destination: ReplayDestination,
        group: String,
        preview: ReplayPreview,
    ) -> Result<(), Error> {
        let is_shown = self.report.dry_run && self.report.output == SummaryFormat::Text;
        let shown = is_shown.then(|| self.shown(context, &section, &preview)).transpose()?;
        let what = format!("{} to {}", preview.line(name), destination.shown());
        let ReplayPreview { stats, newest, .. } = preview;
        let newest = Arc::new(newest);
        let (selection, max_replays) = (self.select.selection()?, self.max_replays);
        let rules = ReplayRules { selection, max_replays, newest: Arc::clone(&newest) };
        let info =
            |(topic, highest): (&str, i32)| TopicInfo { topic: Topic::named(topic), partitions: highest.saturating_add(1) };
        let replay = Replay { rules, origins: stats.origins().map(info).collect(), what, preview: shown };
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
            goes_on: self.goes_on(),
            ..ReadArgs::default()
        };
        let Self { create, documents, shaping, delivery, report, .. } = self;
        let source = section.name.clone();
        match destination {
            ReplayDestination::Topic { section: to, name: topic } => {
                let shape = shaping.build(&context.profile, section.mask_key.as_ref())?.map(transform);
                let returning = Returning { letters: stats.count_from(&topic), earlier: newest.earlier_of(&topic) };
                let args = (&read, &delivery.failure, &report);
                let session = Session::connect(context, "dlq replay", section, args, None).await?;
                let run = (shape, read.count, report.dry_run);
                replay_to_topic(context, session, (&to, &topic, create), &replay, returning, &delivery, run).await
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

/// The most that `--max-replays` takes.
const MOST_REPLAYS: u32 = 1000;

/// Returns the refusal to quarantine letters of a quarantine: nothing would be delivered, and they would count as read.
fn quarantined_again(preview: &ReplayPreview, max_replays: u32) -> Error {
    let times = counted(u64::from(max_replays), "time");
    let enough = preview.most_replays.saturating_add(1).min(MOST_REPLAYS);
    Error::Refused(Refused {
        what: "letters of a quarantine are not quarantined again".to_owned(),
        numbers: vec![format!("{} replayed {times} or more", were(preview.too_often, "letter"))],
        hint: format!("allow them one more replay with --max-replays {enough}"),
    })
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
