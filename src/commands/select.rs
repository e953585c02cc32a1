//! The flags that say what is read, and what they lead to.

use std::collections::BTreeMap;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::topics::{Partitions, Topics, partitions, position};
use crate::connectors::kafka::{Admin, KafkaSource, OnGap, PlannedPartition, Pos, ReadPlan, ReadPlanRequest, ResumeRules};
use crate::connectors::kafka::{SourceOptions, StartReason, Subscription, TopicInfo};
use crate::error::Error;
use crate::pipeline::Refused;
use crate::profile::KafkaSection;
use crate::record::Topic;

/// Flags that say what is read.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "What is read")]
pub struct ReadArgs {
    /// The topics.
    #[command(flatten)]
    pub topics: Topics,
    /// Consumer group that keeps the positions [default: the section's `default_consumer_group_id`]
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    pub group: Option<String>,
    /// Use a group that nobody has used: <group>-fresh-<8 hex>
    #[arg(long)]
    pub fresh_group: bool,
    /// Fixed name of this member: after a restart it has its partitions back at once
    #[arg(long, value_name = "ID", value_parser = Text::new())]
    pub instance_id: Option<String>,
    /// Read only these partitions (0,2-5), without joining the group; refused while the group has members
    #[arg(long, value_name = "LIST", value_parser = partitions)]
    pub partitions: Option<Partitions>,
    /// Where to start: `beginning`, `end`, `committed`, an offset, -N (N before the end), @UNIX or @RFC3339 or @DATE, @-1h
    ///
    /// A start other than `committed` is written to the group once, before joining it; after that the committed position counts.
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = position)]
    pub start: Option<Pos>,
    /// Where to stop; without it, or another limit, the command follows until it is interrupted
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = position)]
    pub stop: Option<Pos>,
    /// Read all that the topics still hold, with the same group: `--start beginning`
    ///
    /// A service must not carry this flag: every restart would read everything again.
    #[arg(long, conflicts_with = "start")]
    pub from_beginning: bool,
    /// Stop at the ends that the topics have now
    #[arg(long, conflicts_with = "stop")]
    pub until_caught_up: bool,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Take over the offsets that another flow committed for the group
    #[arg(long)]
    pub adopt_group: bool,
    /// What to do where records are missing between the committed position and the log
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    pub on_gap: OnGap,
    /// Read records of open and aborted transactions too
    #[arg(long)]
    pub read_uncommitted: bool,
}

impl ReadArgs {
    /// Returns whether the run ends by itself.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.until_caught_up || self.stop.is_some() || self.count.is_some()
    }

    /// Returns the group, from the flag or else from what the section says.
    ///
    /// # Errors
    /// When neither names one.
    pub fn group(&self, section: &KafkaSection, own: Option<&str>) -> Result<String, Error> {
        let group =
            self.group.as_deref().or(own).or(section.default_consumer_group_id.as_deref()).ok_or_else(|| Error::Usage {
                what: "no consumer group is named".to_owned(),
                hint: format!("name one with --group, or set `default_consumer_group_id` under [{}]", section.name),
            })?;
        Ok(if self.fresh_group { format!("{group}-fresh-{:08x}", super::run::random()) } else { group.to_owned() })
    }

    /// Returns the topics to read, with their partitions.
    ///
    /// # Errors
    /// When one is not there, or none is left.
    pub async fn topics(&self, admin: &Admin, section: &KafkaSection) -> Result<Vec<TopicInfo>, Error> {
        self.topics.choose(section, &admin.topics().await?)
    }

    /// Decides what is read, without changing anything.
    ///
    /// # Errors
    /// When the cluster does not answer, or when reading on would not be safe.
    pub async fn plan(
        &self,
        admin: &Admin,
        section: &KafkaSection,
        topics: &[TopicInfo],
        group: &str,
        rules: &ResumeRules,
        yes: bool,
    ) -> Result<ReadPlan, Error> {
        if let Some(wanted) = &self.partitions {
            wanted.check(topics)?;
            crate::connectors::kafka::require_empty(admin, group, "its partitions cannot be read beside it").await?;
        }
        let request = ReadPlanRequest {
            group,
            topics,
            partitions: self.partitions.as_ref().map(|list| list.0.as_slice()),
            start: if self.from_beginning { Pos::Beginning } else { self.start.unwrap_or(Pos::Committed) },
            stop: if self.until_caught_up { Some(Pos::End) } else { self.stop },
            read_uncommitted: self.read_uncommitted,
            may_skip: yes,
            rules,
            now: jiff::Timestamp::now().as_millisecond(),
        };
        Ok(ReadPlan::make(admin, section, &request).await?)
    }

    /// Returns the rules by which the group resumes.
    #[must_use]
    pub fn rules(&self, flow: String) -> ResumeRules {
        ResumeRules { flow, adopt: self.adopt_group, on_gap: self.on_gap }
    }

    /// Opens the source as planned.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn open(
        &self,
        section: &KafkaSection,
        plan: &ReadPlan,
        rules: ResumeRules,
        limits: &super::flow::SourceLimits,
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

/// Returns the lines that show a plan: what is read, from where, and why; each partition, or each topic.
#[must_use]
pub fn plan_lines(plan: &ReadPlan, each_partition: bool) -> Vec<String> {
    let number = |number: i64| crate::report::grouped(u64::try_from(number).unwrap_or(0));
    if each_partition {
        let line = |planned: &PlannedPartition| {
            let (start, end) = (number(planned.start.0), number(planned.end));
            let stop = planned.stop.map_or_else(|| "follows".to_owned(), |stop| format!("stops at {}", number(stop)));
            format!("{}: from {start} ({}), the end is at {end}, {stop}", planned.partition, planned.reason)
        };
        return plan.partitions.iter().map(line).collect();
    }
    let mut topics: BTreeMap<(Topic, String), (usize, i64, bool)> = BTreeMap::new();
    for planned in &plan.partitions {
        let (count, records, stops) = topics.entry((planned.partition.topic, planned.reason.to_string())).or_default();
        *count += 1;
        *records += planned.stop.unwrap_or(planned.end) - planned.start.0;
        *stops |= planned.stop.is_some();
    }
    let line = |((topic, why), (count, records, stops)): (&(Topic, String), &(usize, i64, bool))| {
        let partitions = if *count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") };
        let then = if *stops { "then stops" } else { "then follows" };
        format!("{topic}: {partitions}, from: {why}; reads {} offsets, {then}", number(*records))
    };
    topics.iter().map(line).collect()
}

/// Refuses to write into partitions that hold records when nothing says that this group has written them.
///
/// # Errors
/// When a partition without a commit would be written to one that is not empty.
pub fn refuse_second_copy(
    plan: &ReadPlan,
    holds: impl Fn(crate::record::Partition) -> Option<(String, i64)>,
) -> Result<(), Error> {
    let full: Vec<String> = plan
        .partitions
        .iter()
        .filter(|planned| planned.reason == StartReason::NoCommit && planned.end > planned.low)
        .filter_map(|planned| holds(planned.partition))
        .map(|(target, records)| format!("{target} holds {} records", crate::report::grouped(records.cast_unsigned())))
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
