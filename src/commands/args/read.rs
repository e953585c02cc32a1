//! Flags that choose group, positions and bounds.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::SourceLimits;
use crate::commands::args::numbers::parse_count;
use crate::commands::args::topics::{
    PartitionList, TopicArgs, check_range, check_resolved, parse_partitions, parse_position, reversed_lines,
};
use crate::commands::run;
use crate::connectors::kafka::{Admin, KafkaSource, OnGap, PlannedPartition, Pos, ReadPlan, ReadPlanRequest, ResumeRules};
use crate::connectors::kafka::{SourceOptions, Subscription, TargetIds, TopicInfo};
use crate::error::Error;
use crate::pipeline::ConnectorError;
use crate::profile::KafkaSection;
use crate::record::Topic;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Reading")]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) topics: TopicArgs,
    /// Consumer group that keeps the positions [default: for a sink `consumer_group_id` of the target's section, for aggregate
    /// aggregate-<target topic>, else `default_consumer_group_id` of the source's section]
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    pub(crate) group: Option<String>,
    /// Use a new group: <group>-fresh-<8 hex>
    #[arg(long)]
    pub(crate) fresh_group: bool,
    /// Static membership: after a restart this member gets its partitions back at once
    #[arg(long, value_name = "ID", value_parser = Text::new())]
    pub(crate) instance_id: Option<String>,
    /// Read only these partitions (0,2-5), without joining the group; refused while the group has members
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    pub(crate) partitions: Option<PartitionList>,
    /// Where to start: `beginning`, `end`, `committed`, an offset, -N (N before the end), @UNIX or @RFC3339 or @DATE, @-1h
    ///
    /// A start other than `committed` is committed to the group once, before joining it; after that the committed position counts.
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    pub(crate) start: Option<Pos>,
    /// Where to stop; without it, or another bound, the command follows until interrupted
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    pub(crate) stop: Option<Pos>,
    /// Read all that the topics still hold, with the same group: `--start beginning`
    ///
    /// Do not use it in a service: every restart would read everything again.
    #[arg(long, conflicts_with = "start")]
    pub(crate) from_beginning: bool,
    /// Stop at the present ends of the topics
    #[arg(long, conflicts_with = "stop")]
    pub(crate) until_caught_up: bool,
    /// Stop after N records
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub(crate) count: Option<u64>,
    /// Take over the offsets that another command or target committed for the group
    #[arg(long)]
    pub(crate) adopt_group: bool,
    /// What to do where records are missing between the committed position and the partition's log
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    pub(crate) on_gap: OnGap,
    /// Read records of open and aborted transactions too
    #[arg(long)]
    pub(crate) read_uncommitted: bool,
    /// Whether the group goes on where it has read beyond the start, rather than begin there again.
    #[arg(skip)]
    pub(crate) goes_on: bool,
}

impl ReadArgs {
    /// Returns whether the run ends by itself.
    #[must_use]
    pub(crate) fn is_bounded(&self) -> bool {
        self.until_caught_up || self.stop.is_some() || self.count.is_some()
    }

    /// Returns the group, from the flag or else the section; `setting` is the key of the profile that the hint suggests.
    ///
    /// # Errors
    /// When neither names one.
    pub(crate) fn group(&self, section: &KafkaSection, own: Option<&str>, setting: &str) -> Result<String, Error> {
        let group =
            self.group.as_deref().or(own).or(section.default_consumer_group_id.as_deref()).ok_or_else(|| Error::Usage {
                what: "no consumer group is named".to_owned(),
                hint: format!("name one with --group, or set {setting}"),
            })?;
        Ok(if self.fresh_group { format!("{group}-fresh-{:08x}", run::random()) } else { group.to_owned() })
    }

    /// Returns the topics to read, with their partitions. One that was just created is looked for again, for up to `wait`.
    ///
    /// # Errors
    /// When a topic does not exist, or none is left.
    pub(crate) async fn topics(&self, admin: &Admin, section: &KafkaSection, wait: Duration) -> Result<Vec<TopicInfo>, Error> {
        self.topics.look_up(admin, section, wait).await
    }

    /// Returns the position at which the run is asked to start.
    #[must_use]
    pub(crate) fn start(&self) -> Pos {
        if self.from_beginning { Pos::Beginning } else { self.start.unwrap_or(Pos::Committed) }
    }

    /// Plans the positions to read, without changing anything.
    ///
    /// # Errors
    /// When the cluster does not answer, or when continuing would not be safe.
    pub(crate) async fn plan(
        &self,
        admin: &Admin,
        section: &KafkaSection,
        topics: &[TopicInfo],
        group: &str,
        rules: &ResumeRules,
        yes: bool,
    ) -> Result<ReadPlan, Error> {
        check_range(self.start, self.stop)?;
        if let Some(wanted) = &self.partitions {
            wanted.check(topics)?;
            crate::connectors::kafka::require_empty(
                admin,
                group,
                "its partitions cannot be read while the group has active members",
            )
            .await?;
        }
        let request = ReadPlanRequest {
            group,
            topics,
            partitions: self.partitions.as_ref().map(|list| list.0.as_slice()),
            start: self.start(),
            goes_on: self.goes_on,
            stop: if self.until_caught_up { Some(Pos::End) } else { self.stop },
            read_uncommitted: self.read_uncommitted,
            rules,
            now: jiff::Timestamp::now().as_millisecond(),
        };
        let plan = ReadPlan::make(admin, section, &request).await?;
        let range = |planned: &PlannedPartition| Some((planned.partition, planned.start.0, planned.stop?));
        // One that goes on may have read everything before the stop.
        let start = Some(request.start).filter(|_| !self.goes_on);
        let reversed = check_resolved(start, self.stop, plan.partitions.iter().filter_map(range))?;
        for line in reversed_lines(&reversed) {
            tracing::info!("{line}");
        }
        if !yes && !self.goes_on {
            plan.refuse_skips().map_err(ConnectorError::from)?;
        }
        Ok(plan)
    }

    /// Returns the rules by which the group resumes.
    #[must_use]
    pub(crate) fn rules(&self, flow: String) -> ResumeRules {
        ResumeRules { flow, adopt: self.adopt_group, on_gap: self.on_gap, target_ids: TargetIds::default() }
    }

    /// Checks that the source's client can be created, without joining the group.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn check_client(&self, section: &KafkaSection, group: &str) -> Result<(), Error> {
        Ok(KafkaSource::check_client(section, group, self.instance_id.as_deref(), self.read_uncommitted)?)
    }

    /// Opens the source as planned.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) fn open(
        &self,
        section: &KafkaSection,
        plan: &ReadPlan,
        rules: ResumeRules,
        limits: &SourceLimits,
    ) -> Result<KafkaSource, Error> {
        let subscription = if self.partitions.is_some() {
            Subscription::Assigned(plan.partitions.iter().map(|planned| planned.partition).collect())
        } else if self.topics.topics_matching.is_some() {
            let topics = self.topics.clone();
            Subscription::Matching(Box::new(move |name| topics.fits(name)))
        } else {
            let topics: std::collections::BTreeSet<Topic> =
                plan.partitions.iter().map(|planned| planned.partition.topic).collect();
            Subscription::Topics(topics.into_iter().map(|topic| topic.name().to_owned()).collect())
        };
        let options = SourceOptions {
            group: plan.group.clone(),
            instance_id: self.instance_id.clone(),
            subscription,
            rules,
            read_uncommitted: self.read_uncommitted,
            batch: limits.batch,
            buffer_bytes: limits.buffer_bytes,
            commit_interval: limits.commit_interval,
        };
        Ok(KafkaSource::open(section, plan, options)?)
    }
}
