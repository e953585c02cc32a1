//! `sdl replicate`: Kafka to Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use crate::commands::Context;
use crate::commands::args::{
    DeliveryArgs, KAFKA_DEFAULTS, ReadArgs, ReportArgs, ShapingArgs, TopicArgs, chain, parse_linger, parse_pattern, transform,
};
use crate::commands::group_translation::GroupTranslation;
use crate::commands::offset_map::{MapTopic, OffsetMapArgs};
use crate::commands::session::{FlowNames, FlowTarget, Session, warn_of_missing_destination};
use crate::commands::target_watch::missing_topic;
use crate::connectors::kafka::{
    Admin, KafkaSink, OnCopied, PlannedPartition, Pos, PrepareTargets, ProducerOptions, ReadPlan, StartReason, TOPIC_NAME_RULE,
    TargetIds, TopicInfo,
};
use crate::error::Error;
use crate::offsets::Translator;
use crate::pipeline::{Failure, LookAtTarget, Refused, TargetLook, Transform, WatchPace, WatchedSink, Watcher};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::replication::{
    CopyRecorder, MapFlow, MapWriterHandle, MissingTarget, ReplicationError, TopicFilter, TopicNames, TopicSync, mark_origin,
    of_partitions,
};
use crate::report::counted;

/// Copy topics from one Kafka cluster to another, or within one
///
/// Keeps key, value, headers, timestamp, tombstones and partition, byte for byte. An offset is committed after the target has
/// acknowledged the record: a run that was killed resumes without loss.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, mut_arg("linger", |arg| arg.value_parser(parse_linger)))]
pub struct Args {
    #[command(flatten)]
    read: ReadArgs,
    /// Section to read from
    #[arg(long, value_name = "SECTION", default_value = "remote_kafka")]
    source: String,
    /// Section to write to
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    target: String,
    #[command(flatten)]
    naming: NamingArgs,
    /// Do not create missing topics or partitions in the target; refuse instead
    #[arg(long)]
    no_create: bool,
    /// Choose the target partition by the key, as Java clients do, instead of keeping the number
    #[arg(long)]
    repartition: bool,
    /// Compression codec of the produced batches
    #[arg(long, value_name = "CODEC", default_value = "lz4", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    /// Add a header `sdl-origin = cluster/topic/partition/offset`, and filter records that come from the target
    ///
    /// With it, two clusters can be replicated into each other without an endless loop.
    #[arg(long)]
    origin_header: bool,
    #[command(flatten)]
    map: OffsetMapArgs,
    /// Translate the positions of the consumer groups whose whole name matches to the target, every 10 s
    ///
    /// As `sdl offsets translate --yes`: a group with active members on the target is left alone.
    #[arg(long, value_name = "REGEX", value_parser = parse_pattern)]
    groups: Option<Regex>,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl replicate                                    as the profile says, until it is interrupted
  sdl replicate orders --until-caught-up           up to the end that the topic has now
  sdl replicate orders --from-beginning -n 1000    the first thousand records once more
  sdl replicate --topics-matching 'shop\\..*' --prefix eu.
  sdl replicate logins --to-topic processed --shape login --dead-letters topic:bad-logins";

impl Args {
    /// Returns how the run is reported.
    #[must_use]
    pub(crate) fn reporting(&self) -> ReportArgs {
        self.report.clone()
    }

    /// Runs the command.
    ///
    /// # Errors
    /// When the run fails; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        self.check_groups()?;
        let (from, to) = (context.kafka(&self.source)?, context.kafka(&self.target)?);
        let names = self.naming.names(&self.read, &to)?;
        let args = (&self.read, &self.delivery.failure, &self.report);
        let session = Session::connect(context, "replicate", from, args, None).await?;
        let target = Admin::connect(&to, self.delivery.failure.wait).await?;
        // The key spreads the records of a partition over the target's: no offset of it stands for the others.
        let map = if self.repartition { MapTopic::None } else { self.map.look_up(&target, !self.no_create).await };
        let transform = self.transform(context, &session.section, session.admin.cluster_id(), target.cluster_id())?;
        let topics = session.topics.clone();
        let patterns = self.read.topics.clone();
        let reads: TopicFilter = Box::new(move |name| patterns.fits(name));
        let (target_admin, source_admin) = (target.clone(), session.admin.clone());
        let sync = TopicSync::new(session.admin.clone(), target, names, reads, !self.no_create, self.repartition);
        sync.check_names(&topics).map_err(explain)?;
        sync.check_loops(&topics).map_err(explain)?;
        let sync = Arc::new(sync);
        if !matches!(map, MapTopic::None) {
            let is_one_cluster = source_admin.cluster_id() == target_admin.cluster_id();
            self.check_map(is_one_cluster, &topics, sync.names())?;
        }
        let goes_on = self.read.start == Some(Pos::Committed);
        let options = ProducerOptions {
            compression: self.compression.clone(),
            linger: self.delivery.linger(&KAFKA_DEFAULTS),
            keep_timestamps: true,
        };
        let (create, missing) = (!self.no_create, Vec::new());
        let names = FlowNames::new(&to.name, sync.names().as_str());
        let mut target = TargetTopics {
            names,
            section: to,
            create,
            chosen: &self.read.topics,
            topics,
            missing,
            goes_on,
            sync: &sync,
            options: &options,
            admin: &target_admin,
            map,
        };
        let Some(session) = session.start(&mut target).await? else { return Ok(()) };

        let TargetTopics { section: to, map, names, .. } = target;
        let limits = self.delivery.limits(&KAFKA_DEFAULTS, self.read.count);
        let recorder = CopyRecorder::default();
        let mut on_copied: Option<OnCopied> = None;
        let mut writer = None;
        if let Some(topic) = map.existing() {
            let (flow, section, names) = (format!("replicate {}", names.flow), to.clone(), sync.names().clone());
            let flow = MapFlow {
                flow,
                source: source_admin.clone(),
                target: target_admin.clone(),
                section,
                names,
                target_ids: sync.ids(),
                topic,
            };
            writer = Some((MapWriterHandle::start(flow, recorder.clone())?, recorder.clone()));
            on_copied = Some(Box::new(move |runs, last| recorder.on_copied(runs, last)));
        }
        let sink = KafkaSink::open_reporting(&to, &options, sync.limits(), sync.route(), on_copied)?;
        let sink = sink.with_prepare(prepare_targets(&sync));
        let translation = match self.groups {
            None => None,
            Some(pattern) => {
                let names = sync.names().clone();
                // Of its own: it asks coordinators for as long as the run lasts, and may have to connect again.
                let (source, target) = (source_admin.reconnected().await?, target_admin.reconnected().await?);
                let translator = Translator::new(source, target, to.clone(), self.map.topic(), names);
                Some(GroupTranslation::start(translator, pattern).await?)
            }
        };
        let watcher = Watcher::start(look_at_targets(&sync, &to.name), sink.watch(), WATCH_PACE);
        let source_limits = self.delivery.source_limits(&limits);
        let sink = WatchedSink::new(sink, watcher);
        let ended = match writer {
            Some(map) => Box::pin(session.run_mapped(sink, transform, limits, &source_limits, map)).await,
            None => Box::pin(session.run(sink, transform, limits, &source_limits)).await,
        };
        let translated = match translation {
            Some(translation) => translation.finish().await,
            None => Ok(()),
        };
        ended.and(translated)
    }

    /// Checks that positions can be translated.
    fn check_groups(&self) -> Result<(), Error> {
        let flag = match (self.map.is_off(), self.repartition) {
            (true, _) => "--offset-map off",
            (false, true) => "--repartition",
            (false, false) => return Ok(()),
        };
        if self.groups.is_none() {
            return Ok(());
        }
        let what = format!("--groups needs the offset map, which {flag} leaves out");
        Err(Error::Usage { what, hint: format!("remove {flag}, or --groups") })
    }

    /// Checks that the topic of the map holds nothing else, and is not copied itself: each copy of it would be mapped again.
    fn check_map(&self, is_one_cluster: bool, topics: &[TopicInfo], names: &TopicNames) -> Result<(), Error> {
        let (map, chosen) = (self.map.topic(), &self.read.topics);
        let is_read = topics.iter().any(|read| read.topic == map) || chosen.fits(map.name());
        let is_written = topics.iter().any(|read| names.target(read.topic) == map)
            || names.source(map.name()).is_some_and(|source| chosen.fits(source));
        let what = if is_written {
            format!("records would be copied to `{map}`, the topic of the offset map")
        } else if is_read && is_one_cluster {
            format!("`{map}`, the topic of the offset map, would be copied itself")
        } else {
            return Ok(());
        };
        Err(Error::Usage { what, hint: "name another topic with --offset-map, or omit this one with --exclude REGEX".to_owned() })
    }

    /// Returns the transform of each record, unless no flag asks for one.
    fn transform(&self, context: &Context, from: &KafkaSection, source: &str, target: &str) -> Result<Option<Transform>, Error> {
        let shape = self.shaping.build(&context.profile, from.mask_key.as_ref())?.map(transform);
        let origin = self.origin_header.then(|| mark_origin(source.to_owned(), target));
        Ok(chain(origin, shape))
    }
}

/// Names of target topics.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Names of target topics")]
#[group(multiple = false)]
struct NamingArgs {
    /// Name of the target topic, for a single source topic
    #[arg(long, value_name = "NAME")]
    to_topic: Option<String>,
    /// Prefix for the name of the source topic
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Template for the name: `{topic}` stands for the name of the source topic
    #[arg(long, value_name = "TEMPLATE")]
    rename: Option<String>,
}

impl NamingArgs {
    /// Returns the names; without a flag and a topic, the target section's default.
    fn names(&self, read: &ReadArgs, target: &KafkaSection) -> Result<TopicNames, Error> {
        let TopicArgs { names, topics_matching, .. } = &read.topics;
        let default = target.default_producer_topic.as_ref().filter(|_| names.is_empty() && topics_matching.is_none());
        let template = match (&self.to_topic, &self.prefix, &self.rename) {
            (Some(name), _, _) => TopicNames::template(name),
            (_, Some(prefix), _) => TopicNames::prefixed(prefix),
            (_, _, Some(template)) => TopicNames::template(template),
            _ => default.map_or_else(TopicNames::same, |name| TopicNames::template(name)),
        };
        if let Some(unknown) = template.unknown_placeholder() {
            return Err(Error::Usage {
                what: format!("unknown placeholder `{unknown}` in the name of the target topic `{}`", template.as_str()),
                hint: "write {topic}, which stands for the name of the source topic".to_owned(),
            });
        }
        if template.is_fixed() && (names.len() > 1 || topics_matching.is_some()) {
            return Err(Error::Usage {
                what: "several topics cannot be written to one topic".to_owned(),
                hint: "give each its own name with --prefix TEXT or --rename '{topic}-copy'".to_owned(),
            });
        }
        Ok(template)
    }
}

/// The hint for records that were copied to a topic that was deleted.
const COPY_AGAIN: &str = "copy them again with --from-beginning, and name only the topics that are gone, as the others would be copied \
                          twice. Or go on without them: run it once, by hand, with --start committed";

/// Returns how much of what the target has lost can be copied again. Offsets have gaps: it is the most.
fn still_in_source(offsets: i64) -> String {
    let (records, are) = (counted(offsets.unsigned_abs(), "record"), if offsets == 1 { "is" } else { "are" });
    format!("up to {records} {are} still in the source topic")
}

/// The topics of the target during the start.
struct TargetTopics<'a> {
    names: FlowNames,
    section: KafkaSection,
    create: bool,
    /// What is read, also of topics that appear later.
    chosen: &'a TopicArgs,
    topics: Vec<TopicInfo>,
    missing: Vec<MissingTarget>,
    /// Whether the user wants to go on at the committed positions whatever the target holds.
    goes_on: bool,
    sync: &'a TopicSync,
    options: &'a ProducerOptions,
    /// Of the target.
    admin: &'a Admin,
    map: MapTopic,
}

impl FlowTarget for TargetTopics<'_> {
    fn names(&self) -> &FlowNames {
        &self.names
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        self.missing = self.sync.missing(&self.topics).await.map_err(explain)?;
        if !self.goes_on {
            // First: such a topic may have fewer partitions than before.
            self.refuse_recreated_targets(plan).await?;
        }
        self.sync.check_missing(&self.missing).map_err(explain)?;
        let held = self.sync.held(plan).await.map_err(explain)?;
        refuse_second_copy(plan, |partition| held.get(&partition).copied())?;
        if !self.goes_on {
            self.refuse_deleted_targets(plan)?;
        }
        for name in self.missing.iter().filter_map(MissingTarget::topic) {
            warn_of_missing_destination(self.planned_for(plan, name), &format!("topic `{name}` on `{}`", self.section.name));
        }
        Ok(self.missing.iter().map(ToString::to_string).chain(self.map.line()).collect())
    }

    fn target_ids(&self) -> TargetIds {
        self.sync.ids()
    }

    fn topics(&self) -> Vec<Topic> {
        self.topics.iter().map(|topic| self.sync.names().target(topic.topic)).collect()
    }

    fn writes(&self, topic: &str) -> bool {
        let is_target = self.topics().iter().any(|written| written.name() == topic);
        let is_map = match &self.map {
            MapTopic::None => false,
            MapTopic::Exists(map) => map.topic.name() == topic,
            MapTopic::Missing(map) => map.name() == topic,
        };
        is_target || is_map || self.sync.names().source(topic).is_some_and(|source| self.chosen.fits(source))
    }

    fn cluster(&self) -> Option<&KafkaSection> {
        Some(&self.section)
    }

    fn may_create(&self) -> bool {
        self.create
    }

    fn check_client(&self) -> Result<(), Error> {
        Ok(KafkaSink::check_client(&self.section, self.options)?)
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        self.sync.create(&self.topics, &self.missing).await.map_err(explain)?;
        self.map.create(self.admin).await;
        Ok(())
    }
}

impl TargetTopics<'_> {
    /// Returns the planned partitions that are copied to the topic `name`.
    fn planned_for<'p>(&self, plan: &'p ReadPlan, name: &str) -> impl Iterator<Item = &'p PlannedPartition> {
        plan.partitions.iter().filter(move |planned| self.sync.names().target(planned.partition.topic).name() == name)
    }

    /// Refuses to go on if the group has read records whose target topic does not exist: it was deleted, and they with it.
    fn refuse_deleted_targets(&self, plan: &ReadPlan) -> Result<(), Error> {
        let mut gone = Vec::new();
        for missing in &self.missing {
            let Some(name) = missing.topic() else { continue };
            let read_before = self.planned_for(plan, name).filter(|planned| plan.resumes_own(planned));
            let offsets: i64 = read_before.map(|planned| planned.start.0 - planned.low).sum();
            if offsets > 0 {
                gone.push(format!("{name}: {}", still_in_source(offsets)));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let group = &plan.group;
        let what =
            format!("group `{group}` has copied records to a topic that does not exist any more on `{}`", self.section.name);
        Err(Error::Refused(Refused { what, numbers: gone, hint: COPY_AGAIN.to_owned() }))
    }

    /// Refuses to go on if the group has copied records to a topic that was deleted and created again since.
    async fn refuse_recreated_targets(&self, plan: &ReadPlan) -> Result<(), Error> {
        let ids = self.sync.ids();
        let mut gone = BTreeMap::new();
        for planned in plan.partitions.iter().filter(|planned| plan.resumes_own(planned)) {
            let topic = planned.partition.topic;
            let replaced = planned.committed.as_ref().and_then(|committed| ids.replaced(topic, committed));
            if let Some((old, new)) = replaced.filter(|_| planned.start.0 > planned.low)
                && (gone.contains_key(&self.sync.names().target(topic))
                    || self.sync.is_replaced(topic, &old).await.map_err(explain)?)
            {
                let (_, _, offsets) = gone.entry(self.sync.names().target(topic)).or_insert((old, new, 0));
                *offsets += planned.start.0 - planned.low;
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let line = |(topic, (old, new, offsets)): (Topic, (String, String, i64))| {
            format!("{topic}: topic id {old} when written, {new} now; {}", still_in_source(offsets))
        };
        let what = format!(
            "group `{}` has copied records to a topic that was deleted and created again on `{}`: the copied records are gone",
            plan.group, self.section.name
        );
        Err(Error::Refused(Refused { what, numbers: gone.into_iter().map(line).collect(), hint: COPY_AGAIN.to_owned() }))
    }
}

/// How often the run looks at its target topics.
const WATCH_PACE: WatchPace = WatchPace { interval: Duration::from_secs(5), deleted_after: Duration::from_secs(4) };

/// Returns what looks whether the target topics are still those that the run has written to.
fn look_at_targets(sync: &Arc<TopicSync>, section: &str) -> LookAtTarget {
    let (sync, section): (_, Arc<str>) = (Arc::clone(sync), section.into());
    Arc::new(move || {
        let (sync, section) = (Arc::clone(&sync), Arc::clone(&section));
        Box::pin(async move {
            let error = match sync.check_targets().await {
                Ok(missing) => {
                    let problem = missing.first().map(|topic| missing_topic(*topic, &section));
                    return TargetLook::Sound { problem, is_known: sync.knows_all_ids() };
                }
                Err(error) => error,
            };
            let deleted = match &error {
                ReplicationError::TargetsDeleted { topics, .. } => topics.first().map(|(topic, _)| *topic),
                _ => None,
            };
            let is_of_deleted_target = error.is_of_deleted_target();
            match (explain(error), deleted) {
                (Error::Refused(refused), Some(topic)) => {
                    TargetLook::Deleted { problem: missing_topic(topic, &section), refused }
                }
                (Error::Refused(refused), None) if is_of_deleted_target => TargetLook::Recreated(refused),
                (error, _) => {
                    tracing::debug!(%error, "The target topics could not be looked at.");
                    TargetLook::Unknown
                }
            }
        })
    })
}

/// Returns the hook that creates target topics and partitions during the run.
fn prepare_targets(sync: &Arc<TopicSync>) -> PrepareTargets {
    let sync = Arc::clone(sync);
    Box::new(move |partitions| {
        let sync = Arc::clone(&sync);
        Box::pin(async move {
            sync.prepare(&partitions).await.map_err(|error| match explain(error) {
                Error::Failed(failure) => failure.into(),
                Error::Refused(refused) => refused.into(),
                other => Failure::new(other.to_string()).into(),
            })
        })
    })
}

/// Adds the hint with its flags.
fn explain(error: ReplicationError) -> Error {
    let what = error.to_string();
    let (numbers, hint) = match error {
        ReplicationError::Connector(error) => return error.into(),
        ReplicationError::InvalidName(_) => {
            return Error::Usage { what, hint: TOPIC_NAME_RULE.to_owned() };
        }
        ReplicationError::IntoItself { from, to, cluster, .. } => (
            format!("`{from}` and `{to}` are the same cluster: {cluster}"),
            "name another section with --target, or another topic with --to-topic",
        ),
        ReplicationError::FeedsItself { topic, target, cluster } => (
            format!("`{topic}` is copied to `{target}` in the same cluster: {cluster}"),
            "omit the target topics with --exclude REGEX, or name another section with --target",
        ),
        ReplicationError::TooFewPartitions { has, needs, .. } => {
            (format!("source {needs}, target {has}"), "add partitions to it, or let keys choose the partition with --repartition")
        }
        ReplicationError::TargetRecreated { old, new, .. } => {
            let numbers = vec![format!("topic id at the start: {old}"), format!("topic id now:          {new}")];
            return Error::Refused(Refused { what, numbers, hint: COPY_AGAIN.to_owned() });
        }
        ReplicationError::TargetsDeleted { topics, .. } => {
            let line = |(topic, id): (Topic, String)| format!("{topic}: topic id at the start: {id}, not listed now");
            let numbers = topics.into_iter().map(line).collect();
            return Error::Refused(Refused { what, numbers, hint: COPY_AGAIN.to_owned() });
        }
        ReplicationError::MissingTopic { partitions, .. } => {
            (format!("the source has it with {}", of_partitions(partitions)), "create it, or remove --no-create")
        }
    };
    Error::Refused(Refused { what, numbers: vec![numbers], hint: hint.to_owned() })
}

/// Refuses to write a partition without a committed position into one that holds records: the group may have copied them before.
fn refuse_second_copy(plan: &ReadPlan, holds: impl Fn(Partition) -> Option<(Partition, i64)>) -> Result<(), Error> {
    let full: Vec<String> = plan
        .partitions
        .iter()
        .filter(|planned| planned.reason == StartReason::NoCommit && planned.end > planned.low)
        .filter_map(|planned| holds(planned.partition))
        .map(|(target, records)| format!("{target} holds {}", counted(records.cast_unsigned(), "record")))
        .collect();
    if full.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(Refused {
        what: format!(
            "group `{}` has no committed offset, and the target is not empty: records could be there twice",
            plan.group
        ),
        numbers: full,
        hint: "say where to start: --from-beginning copies everything, --start end only what comes from now on".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_deleted_targets_names_each() {
        let topics = ["a", "b"].map(|name| (Topic::named(name), format!("id-{name}"))).to_vec();
        let Error::Refused(refused) = explain(ReplicationError::TargetsDeleted { topics, section: "local_kafka".to_owned() })
        else {
            panic!("not a refusal")
        };
        assert_eq!(refused.what, "topic `a` on `local_kafka` was deleted during the run: what was copied into it is gone");
        let numbers = ["a: topic id at the start: id-a, not listed now", "b: topic id at the start: id-b, not listed now"];
        assert_eq!((refused.numbers, refused.hint), (numbers.map(str::to_owned).to_vec(), COPY_AGAIN.to_owned()));
    }
}
