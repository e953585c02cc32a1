//! `sdl replicate`: Kafka to Kafka.

use std::sync::Arc;

use crate::commands::Context;
use crate::commands::args::{DeliveryArgs, KAFKA_DEFAULTS, ReadArgs, ReportArgs, ShapingArgs, TopicArgs, chain, transform};
use crate::commands::session::{FlowTarget, Session};
use crate::connectors::kafka::{Admin, KafkaSink, PrepareTargets, ProducerOptions, ReadPlan, StartReason, TopicInfo};
use crate::error::Error;
use crate::pipeline::{Failure, Refused, Transform};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::replication::{MissingTarget, ReplicationError, TopicFilter, TopicNames, TopicSync, mark_origin};
use crate::report::grouped;

/// Copy topics from one Kafka cluster to another, or within one
///
/// Keeps key, value, headers, timestamp, tombstones and partition, byte for byte. An offset is committed after the target has
/// acknowledged the record: a run that was killed resumes without loss.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
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
    /// Runs the command.
    ///
    /// # Errors
    /// When the run fails; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, context.kafka(&self.target)?);
        let names = self.naming.names(&self.read, &to)?;
        let args = (&self.read, &self.delivery.failure, &self.report);
        let session = Session::connect(context, "replicate", from, args, None).await?;
        let target = Admin::connect(&to, self.delivery.failure.wait).await?;
        let transform = self.transform(context, &session.section, session.admin.cluster_id(), target.cluster_id())?;
        let topics = session.topics.clone();
        let patterns = self.read.topics.clone();
        let reads: TopicFilter = Box::new(move |name| patterns.fits(name));
        let sync = TopicSync::new(session.admin.clone(), target, names, reads, !self.no_create, self.repartition);
        sync.check_loops(&topics).map_err(explain)?;
        let sync = Arc::new(sync);
        let mut target = TargetTopics { section: to, create: !self.no_create, topics, missing: Vec::new(), sync: &sync };
        let Some(session) = session.start(&mut target).await? else { return Ok(()) };

        let to = target.section;
        let limits = self.delivery.limits(&KAFKA_DEFAULTS, self.read.count);
        let options = ProducerOptions {
            compression: self.compression.clone(),
            linger: self.delivery.linger(&KAFKA_DEFAULTS),
            keep_timestamps: true,
        };
        let sink = KafkaSink::open(&to, &options, sync.limits(), sync.route())?.with_prepare(prepare_targets(&sync));
        session.run(sink, transform, limits, &self.delivery.source_limits(&limits)).await
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
        if template.is_fixed() && (names.len() > 1 || topics_matching.is_some()) {
            return Err(Error::Usage {
                what: "several topics cannot be written to one topic".to_owned(),
                hint: "give each its own name with --prefix TEXT or --rename '{topic}-copy'".to_owned(),
            });
        }
        Ok(template)
    }
}

/// The topics of the target during the start.
struct TargetTopics<'a> {
    section: KafkaSection,
    create: bool,
    topics: Vec<TopicInfo>,
    missing: Vec<MissingTarget>,
    sync: &'a TopicSync,
}

impl FlowTarget for TargetTopics<'_> {
    fn section(&self) -> &str {
        &self.section.name
    }

    fn flow(&self) -> String {
        format!("{}/{}", self.section.name, self.sync.names().as_str())
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        self.missing = self.sync.missing(&self.topics).await.map_err(explain)?;
        self.sync.check_missing(&self.missing).map_err(explain)?;
        let held = self.sync.held(plan).await.map_err(explain)?;
        refuse_second_copy(plan, |partition| held.get(&partition).copied())?;
        Ok(self.missing.iter().map(ToString::to_string).collect())
    }

    fn topics(&self) -> Vec<Topic> {
        self.topics.iter().map(|topic| self.sync.names().target(topic.topic)).collect()
    }

    fn cluster(&self) -> Option<&KafkaSection> {
        Some(&self.section)
    }

    fn may_create(&self) -> bool {
        self.create
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        self.sync.create(&self.topics, &self.missing).await.map_err(explain)
    }
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
            let hint = "use up to 249 letters, digits, dots, underscores and dashes".to_owned();
            return Error::Usage { what, hint };
        }
        ReplicationError::IntoItself { from, to, cluster, .. } => (
            format!("`{from}` and `{to}` are the same cluster: {cluster}"),
            "name another section with --target, or another topic with --to-topic",
        ),
        ReplicationError::FeedsItself { topic, target, cluster } => (
            format!("`{topic}` is copied to `{target}` in the same cluster: {cluster}"),
            "leave the target topics out with --exclude REGEX, or name another section with --target",
        ),
        ReplicationError::TooFewPartitions { has, needs, .. } => {
            (format!("source {needs}, target {has}"), "add partitions to it, or let keys choose the partition with --repartition")
        }
        ReplicationError::MissingTopic { partitions, .. } => {
            (format!("the source has it with {partitions} partitions"), "create it, or remove --no-create")
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
        .map(|(target, records)| format!("{target} holds {} records", grouped(records.cast_unsigned())))
        .collect();
    if full.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(Refused {
        what: format!("group `{}` has no position, and the target is not empty: records could be there twice", plan.group),
        numbers: full,
        hint: "say where to start: --from-beginning copies everything, --start end only what comes from now on".to_owned(),
    }))
}
