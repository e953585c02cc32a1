//! `sdl replicate`: Kafka to Kafka.

mod replica;

use std::sync::Arc;

use crate::commands::flow::{DeliveryArgs, Flow, KAFKA};
use crate::commands::run::{self, ReportArgs};
use crate::commands::select::{self, ReadArgs};
use crate::commands::{Context, Shaping, protect, transform};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, partition_of};
use crate::error::Error;
use crate::pipeline::Transform;
use replica::{Replica, TopicNaming};

/// Copy topics from one Kafka cluster to another, or within one
///
/// Key, value, headers, timestamp, tombstones and partition are kept, byte for byte. An offset is committed once the record is
/// in the target, so a run that was killed goes on where it left off and loses nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    select: ReadArgs,
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
    shaping: Shaping,
    #[command(flatten)]
    deliver: DeliveryArgs,
    #[command(flatten)]
    watch: ReportArgs,
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
        let watching = self.watch.begin(None).await?;
        let source = Admin::connect(&from, self.deliver.care.wait).await?;
        let target = Admin::connect(&to, self.deliver.care.wait).await?;
        let topics = self.select.topics(&source, &from).await?;
        let naming = self.naming.clone().or_default(&self.select, &to)?;
        let group = self.select.group(&from, None)?;
        let rules = self.select.rules(format!("replicate {}/{}", to.name, naming.pattern()));
        let plan = self.select.plan(&source, &from, &topics, &group, &rules, context.global.yes).await?;
        let replica = Replica::new(source.clone(), target.clone(), naming, !self.no_create, self.repartition);
        replica.refuse_loops(&topics)?;
        let lacking = replica.lacking(&topics).await?;
        replica.refuse(&lacking)?;
        let held = replica.held(&plan).await?;
        select::refuse_second_copy(&plan, |partition| held.get(&partition).cloned())?;
        let each_partition = self.watch.dry_run || context.global.verbose > 0;
        let lines = select::plan_lines(&plan, each_partition).into_iter().chain(lacking.iter().map(ToString::to_string));
        for line in lines {
            tracing::info!("{line}");
        }
        if self.watch.dry_run {
            context.say("dry run: nothing was changed\n");
            return Ok(());
        }
        protect::confirm(context, &to, &format!("write to {}", replica.names(&topics).join(", ")))?;
        // Before anything of the flow is changed: a run that cannot set bad records aside should not begin.
        let run = run::name();
        let letters = self.deliver.care.open_dead_letters(&context.profile, &to, &run, !self.no_create).await?;
        replica.prepare(&topics, &lacking).await?;
        plan.begin(&source, &rules.flow).await?;

        let limits = self.deliver.limits(&KAFKA, false, self.select.count);
        let options =
            ProducerOptions { compression: self.compression.clone(), linger: self.deliver.linger(&KAFKA), keep_timestamps: true };
        let replica = Arc::new(replica);
        let sink = KafkaSink::open(&to, &options, replica.targets(), replica.route())?.with_prepare(replica.prepare_targets());
        let records = self.select.open(&from, &plan, rules, &self.deliver.source_limits(&limits))?;
        let transform = self.transform(context, &from, source.cluster_id(), target.cluster_id())?;
        let flow = Flow {
            command: "replicate",
            run,
            sections: [from.name, to.name],
            select: &self.select,
            deliver: &self.deliver,
            watching,
            backlog: plan.backlog(),
            source: records,
            sink,
            letters,
            transform,
            limits,
        };
        flow.run(context).await
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
        Ok(match (origin, shape) {
            (None, shape) => shape,
            (origin, None) => origin,
            (Some(origin), Some(shape)) => Some(Box::new(move |record| match origin(record) {
                crate::pipeline::TransformResult::Keep => shape(record),
                other => other,
            })),
        })
    }
}

/// Returns the partition that the key of a record asks for; without a key, one by the partition that it came from, so that order
/// holds there too.
fn by_key(record: &crate::record::Record, partitions: i32) -> i32 {
    record.key.as_ref().map_or(record.partition.index % partitions.max(1), |key| partition_of(key, partitions))
}
