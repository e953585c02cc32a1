//! `sdl replicate`: Kafka to Kafka.

mod replica;

use std::sync::Arc;

use crate::commands::Context;
use crate::commands::args::{DeliveryArgs, KAFKA_DEFAULTS, ReadArgs, ReportArgs, ShapingArgs, chain, transform};
use crate::commands::session::{FlowTarget, Session};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, ReadPlan, StartReason, TopicInfo, partition_of};
use crate::error::Error;
use crate::pipeline::{Refused, Transform};
use crate::profile::KafkaSection;
use crate::record::Partition;
use crate::report::grouped;
use replica::{MissingTarget, Replica, TopicNaming};

/// Copy topics from one Kafka cluster to another, or within one
///
/// Key, value, headers, timestamp, tombstones and partition are kept, byte for byte. An offset is committed once the record is
/// in the target, so a run that was killed goes on where it left off and loses nothing.
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
    naming: TopicNaming,
    /// Refuse to create topics or partitions that the target lacks
    #[arg(long)]
    no_create: bool,
    /// Choose the target partition by the key, as Java clients do, instead of keeping the number
    #[arg(long)]
    repartition: bool,
    /// Compression on the way to the target and in it
    #[arg(long, value_name = "CODEC", default_value = "lz4", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    /// Add a header `sdl-origin = cluster/topic/partition/offset`, and leave out records that come from the target
    ///
    /// With it, two clusters can be copied into each other without a record going round for ever.
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
    /// When the run does not end well; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, context.kafka(&self.target)?);
        let naming = self.naming.clone().or_default(&self.read, &to)?;
        let args = (&self.read, &self.delivery.failure, &self.report);
        let session = Session::connect(context, "replicate", from, args, None).await?;
        let (source, topics) = (session.admin.clone(), session.topics.clone());
        let target = Admin::connect(&to, self.delivery.failure.wait).await?;
        let transform = self.transform(context, &session.section, source.cluster_id(), target.cluster_id())?;
        let replica = Replica::new(source, target, naming, !self.no_create, self.repartition);
        replica.refuse_loops(&topics)?;
        let mut destination =
            TargetTopics { section: to, create: !self.no_create, topics, missing: Vec::new(), replica: &replica };
        let Some(session) = session.start(&mut destination).await? else { return Ok(()) };

        let to = destination.section;
        let limits = self.delivery.limits(&KAFKA_DEFAULTS, self.read.count);
        let options = ProducerOptions {
            compression: self.compression.clone(),
            linger: self.delivery.linger(&KAFKA_DEFAULTS),
            keep_timestamps: true,
        };
        let replica = Arc::new(replica);
        let sink = KafkaSink::open(&to, &options, replica.targets(), replica.route())?.with_prepare(replica.prepare_targets());
        let source = session.open(&self.delivery.source_limits(&limits))?;
        session.run(source, sink, transform, limits).await
    }

    /// Returns what is done to each record on its way; nothing, unless something was asked for.
    fn transform(
        &self,
        context: &Context,
        from: &crate::profile::KafkaSection,
        source: &str,
        target: &str,
    ) -> Result<Option<Transform>, Error> {
        let shape = self.shaping.build(&context.profile, from.mask_key.as_ref())?.map(transform);
        let origin = self.origin_header.then(|| replica::origin(source.to_owned(), target));
        Ok(chain(origin, shape))
    }
}

/// The topics of the target, while the command starts.
struct TargetTopics<'a> {
    section: KafkaSection,
    create: bool,
    topics: Vec<TopicInfo>,
    missing: Vec<MissingTarget>,
    replica: &'a Replica,
}

impl FlowTarget for TargetTopics<'_> {
    fn section(&self) -> &str {
        &self.section.name
    }

    fn flow(&self) -> String {
        format!("{}/{}", self.section.name, self.replica.pattern())
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        self.missing = self.replica.lacking(&self.topics).await?;
        self.replica.refuse(&self.missing)?;
        let held = self.replica.held(plan).await?;
        refuse_second_copy(plan, |partition| held.get(&partition).cloned())?;
        Ok(self.missing.iter().map(ToString::to_string).collect())
    }

    fn protected(&self) -> Option<(&KafkaSection, String)> {
        Some((&self.section, format!("write to {}", self.replica.names(&self.topics).join(", "))))
    }

    fn dead_letter_home<'s>(&'s self, _: &'s KafkaSection) -> &'s KafkaSection {
        &self.section
    }

    fn may_create(&self) -> bool {
        self.create
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        self.replica.prepare(&self.topics, &self.missing).await
    }
}

/// Refuses to write a partition without a committed position into one that holds records: the group may have copied them before.
fn refuse_second_copy(plan: &ReadPlan, holds: impl Fn(Partition) -> Option<(String, i64)>) -> Result<(), Error> {
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

/// Returns the partition that the key of a record asks for; without a key, one by the partition that it came from, so that order
/// holds there too.
fn by_key(record: &crate::record::Record, partitions: i32) -> i32 {
    record.key.as_ref().map_or(record.partition.index % partitions.max(1), |key| partition_of(key, partitions))
}
