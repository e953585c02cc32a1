//! The one way to start a moving command:
//! connect, topics, take over, plan, show, dry run, confirm, dead letters, prepare, begin, open. A command supplies its [`FlowTarget`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::commands::args::{FailureArgs, ReadArgs, ReportArgs, SourceLimits, chain};
use crate::commands::dead_letters::{self, DeadLetterPlan, DeadLetterSink, LetterSender};
use crate::commands::run::{self, LettersOfRun, Presentation, RunReporting};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{
    Admin, KafkaSource, PlannedPartition, Pos, ReadPlan, ResumeRules, StartReason, TargetIds, TopicInfo, TransactionalProducer,
};
use crate::dlq::{ReplayRules, ReplaySink, admit};
use crate::error::Error;
use crate::pipeline::transaction::{TransactionFlow, TransactionLoop};
use crate::pipeline::{BadRecordPolicy, DeadLetters, LOSS_TARGET, Limits, Observer, Pipeline, RunReport, Sink, Transform};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::replication::{CopyRecorder, MapWriterHandle, MappedSource};
use crate::report::{ExtraLines, ExtraMetrics, RunInfo, counted, grouped};

pub(crate) struct FlowNames {
    /// The section that is written to.
    pub(crate) section: String,
    /// The destination in the summary.
    pub(crate) shown: String,
    /// The flow in commit metadata, behind the command: `elasticsearch/user-login`.
    pub(crate) flow: String,
    /// The consumer group without `--group`; `None` for the one of the source's section.
    pub(crate) default_group: Option<String>,
    /// The key of the destination's section that sets the group; `None` where only the source's does.
    pub(crate) group_key: Option<&'static str>,
    /// The command whose flow the letters name; `None` for the one that runs. A replay delivers as another command does.
    pub(crate) delivers_as: Option<&'static str>,
}

impl FlowNames {
    /// Returns the names of a flow into `destination`, of which the summary shows only the section.
    pub(crate) fn new(section: &str, destination: &str) -> Self {
        let (section, flow) = (section.to_owned(), format!("{section}/{destination}"));
        Self { shown: section.clone(), section, flow, default_group: None, group_key: None, delivers_as: None }
    }

    /// Returns the names of a flow of `command` into `destination` of a section that can name its group with `consumer_group_id`.
    pub(crate) fn of_sink(command: &'static str, section: &str, destination: &str, consumer_group_id: Option<String>) -> Self {
        let names = Self::new(section, destination);
        let (group_key, delivers_as) = (Some("consumer_group_id"), Some(command));
        Self { default_group: consumer_group_id, group_key, delivers_as, ..names }
    }

    /// Returns the key of the profile that sets the group, for a hint.
    fn group_setting(&self, source: &str) -> String {
        self.group_key.map_or_else(
            || format!("`default_consumer_group_id` under [{source}]"),
            |key| format!("`{key}` under [{}]", self.section),
        )
    }
}

/// The other end of a flow, as far as the start needs it.
pub(crate) trait FlowTarget {
    fn names(&self) -> &FlowNames;

    /// Fences earlier runs of the group, which makes the offsets that the plan reads final. Not called in a dry run; what it changes
    /// is confirmed here. Fails while another instance keeps the group.
    async fn take_over(&mut self, _group: &str, _flow: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Looks at the destination without changing it, and returns the lines of the plan that are about it.
    ///
    /// # Errors
    /// When the flow would not be safe, or the destination cannot be written to.
    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error>;

    /// Returns the ids of the topics that are written to, which are known when the flow is prepared.
    fn target_ids(&self) -> TargetIds {
        TargetIds::default()
    }

    /// Returns the Kafka topics of the section that are written to.
    fn topics(&self) -> Vec<Topic> {
        Vec::new()
    }

    /// Returns whether the run writes to this topic of the section, now or when topics appear.
    fn writes(&self, topic: &str) -> bool {
        self.topics().iter().any(|written| written.name() == topic)
    }

    /// Returns the Kafka cluster for which the session confirms writes, and which keeps the dead letters that name no section; without
    /// one, those stay on the source's.
    fn cluster(&self) -> Option<&KafkaSection> {
        None
    }

    /// Returns whether topics and indices may be created.
    fn may_create(&self) -> bool {
        true
    }

    /// Checks in a dry run that the destination's client can be created; a start creates it.
    ///
    /// # Errors
    /// When it cannot.
    fn check_client(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Creates what is missing, and proves that the destination can be written to.
    ///
    /// # Errors
    /// When it cannot.
    async fn prepare(&mut self) -> Result<(), Error>;
}

/// A run that replays dead letters.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) rules: ReplayRules,
    /// The topics that the letters come from, as far as the letters say.
    pub(crate) origins: Vec<TopicInfo>,
    /// What is replayed, for people: `20 dead letters of bad-logins to es/logins`.
    pub(crate) what: String,
    /// What a dry run prints of the letters.
    pub(crate) preview: Option<String>,
}

impl Replay {
    /// Returns the topics whose records are delivered: in a replay not those that are read.
    pub(crate) fn origins<'a>(replay: Option<&'a Self>, topics: &'a [TopicInfo]) -> &'a [TopicInfo] {
        replay.map_or(topics, |replay| &replay.origins)
    }
}

/// A command that is connected to its source.
pub(crate) struct Session<'a> {
    context: &'a Context,
    command: &'static str,
    read: &'a ReadArgs,
    failure: &'a FailureArgs,
    report: &'a ReportArgs,
    reporting: RunReporting<'a>,
    /// Set if the topics hold dead letters to replay; with what they are, for people.
    replay: Option<(ReplayRules, String)>,
    /// What a dry run prints once it is known that the run could start.
    preview: Option<String>,
    pub(crate) section: KafkaSection,
    pub(crate) admin: Admin,
    pub(crate) topics: Vec<TopicInfo>,
}

/// A session whose start is complete: what remains is to open the destination and run.
pub(crate) struct StartedSession<'a> {
    context: &'a Context,
    read: &'a ReadArgs,
    reporting: RunReporting<'a>,
    headline: RunInfo,
    rules: ResumeRules,
    bad_records: BadRecordPolicy,
    dead_letters: Option<DeadLetters<DeadLetterSink>>,
    replay: Option<ReplayRules>,
    letters: Option<LettersOfRun>,
    section: KafkaSection,
    pub(crate) plan: ReadPlan,
}

impl<'a> Session<'a> {
    /// Serves metrics if asked for, connects to the source and chooses its topics.
    ///
    /// # Errors
    /// When the source does not answer within `--wait`, or a topic does not exist.
    pub(crate) async fn connect(
        context: &'a Context,
        command: &'static str,
        section: KafkaSection,
        (read, failure, report): (&'a ReadArgs, &'a FailureArgs, &'a ReportArgs),
        extra_metrics: Option<ExtraMetrics>,
    ) -> Result<Self, Error> {
        let reporting = RunReporting::begin(report, extra_metrics).await?;
        let admin = Admin::connect(&section, failure.wait).await?;
        let topics = read.topics(&admin, &section, failure.wait).await?;
        Ok(Self { context, command, read, failure, report, reporting, replay: None, preview: None, section, admin, topics })
    }

    /// Makes the run a replay of dead letters. It stops at the present ends: those that fail again may go to the same topic.
    pub(crate) fn replaying(mut self, replay: Option<&Replay>) -> Self {
        self.replay = replay.map(|replay| (replay.rules.clone(), replay.what.clone()));
        self.preview = replay.and_then(|replay| replay.preview.clone());
        self
    }

    /// Plans, shows, confirms and prepares the flow; `None` after a dry run, which changes nothing.
    ///
    /// # Errors
    /// When it is not safe to go on, or the destination cannot be written to.
    pub(crate) async fn start(self, destination: &mut impl FlowTarget) -> Result<Option<StartedSession<'a>>, Error> {
        let Self { context, command, read, failure, report, reporting, replay, preview, section, admin, topics } = self;
        let (replay, replayed) = replay.unzip();
        let written = destination.topics();
        if let Some(cluster) = destination.cluster() {
            let hint = if replay.is_some() { protect::OTHER_REPLAY } else { protect::OTHER_TARGET };
            protect::refuse_read_only(cluster, &written, hint)?;
        }
        let home = destination.cluster().unwrap_or(&section);
        let read_topics: &[TopicInfo] = if replay.is_some() { &[] } else { &topics };
        dead_letters::check(failure, context, home, &admin, (read, read_topics), |name| destination.writes(name)).await?;
        let names = destination.names();
        let group = read.group(&section, names.default_group.as_deref(), &names.group_setting(&section.name))?;
        let rules = ResumeRules { target_ids: destination.target_ids(), ..read.rules(format!("{command} {}", names.flow)) };
        let delivery_flow =
            names.delivers_as.map_or_else(|| rules.flow.clone(), |as_command| format!("{as_command} {}", names.flow));
        if !report.dry_run {
            destination.take_over(&group, &rules.flow).await?;
        }
        let plan = read.plan(&admin, &section, &topics, &group, &rules, context.global.yes).await?;
        let about_destination = destination.plan(&plan).await?;
        let home = destination.cluster().unwrap_or(&section);
        let dead_letters = DeadLetterPlan::make(failure, context, home, destination.may_create()).await?;
        if report.dry_run {
            read.check_client(&section, &group)?;
            destination.check_client()?;
        }
        let about_dead_letters = dead_letters.as_ref().map(DeadLetterPlan::line);
        let lines = plan_lines(&plan, read.start(), report.dry_run || context.global.verbose > 0, read.count);
        for line in lines.into_iter().chain(about_destination).chain(about_dead_letters) {
            tracing::info!("{line}");
        }
        for line in held_back_lines(plan.held_back()) {
            tracing::warn!("{line}");
        }
        if !read.goes_on {
            plan.log_requested_skips();
        }
        if report.dry_run {
            plan.log_gaps();
            if let Some(replayed) = replayed {
                tracing::info!("Would replay {replayed}");
            }
            if let Some(preview) = preview {
                context.print(&preview)?;
            }
            context.say("dry run: nothing was changed\n");
            return Ok(None);
        }
        let letters = dead_letters.as_ref().and_then(DeadLetterPlan::topic);
        let cluster = destination.cluster();
        let is_of_cluster = |section: &KafkaSection| cluster.is_some_and(|cluster| cluster.name == section.name);
        if let Some(cluster) = cluster {
            let letters = letters.filter(|(section, _)| is_of_cluster(section)).map(|(_, topic)| topic);
            protect::confirm(context, cluster, &written.iter().copied().chain(letters).collect::<Vec<_>>())?;
        }
        if let Some((section, topic)) = letters.filter(|(section, _)| !is_of_cluster(section)) {
            protect::confirm(context, section, &[topic])?;
        }
        // Nothing is said to happen before it is certain that it may.
        if let Some(replayed) = replayed {
            tracing::info!("Replaying {replayed}");
        }
        // Before the flow changes anything: a run that cannot set bad records aside must not begin.
        let run = run::new_id();
        let letters = dead_letters.as_ref().map(|plan| LettersOfRun(plan.places(replay.is_some())));
        let places = letters.as_ref().map_or(&[][..], |letters| &letters.0);
        let dead_letters = match dead_letters {
            Some(plan) => {
                Some(plan.open(LetterSender { run: &run, flow: &delivery_flow, replay: replay.as_ref(), places }).await?)
            }
            None => None,
        };
        destination.prepare().await?;
        plan.begin(&admin, &rules).await?;
        if read.instance_id.is_none() && read.partitions.is_none() {
            say_static_members(&admin, &plan.group).await;
        }
        let route = format!("{} → {}", section.name, destination.names().shown);
        let headline = RunInfo { command, run, route, has_positions: true };
        let bad_records = failure.bad_records();
        Ok(Some(StartedSession {
            context,
            read,
            reporting,
            headline,
            rules,
            bad_records,
            dead_letters,
            replay,
            letters,
            section,
            plan,
        }))
    }
}

/// Says which static members the group has: a member that is dynamic waits for the partitions of one whose process has ended.
async fn say_static_members(admin: &Admin, group: &str) {
    let names = [group.to_owned()];
    // Not worth a longer wait, nor a failure.
    let Ok(Ok(groups)) = tokio::time::timeout(Duration::from_secs(2), admin.groups(&names)).await else { return };
    let members = groups.into_iter().flat_map(|group| group.members.unwrap_or_default());
    let instances: Vec<String> = members.filter_map(|member| member.instance_id).collect();
    if let Some(line) = static_members_line(group, instances) {
        tracing::info!("{line}");
    }
}

/// Returns the line about static members with these instance ids; `None` without any.
fn static_members_line(group: &str, mut instances: Vec<String>) -> Option<String> {
    /// The most that are named.
    const MAX_NAMED: usize = 5;
    instances.sort();
    let first = instances.first()?.clone();
    let more = instances.len().saturating_sub(MAX_NAMED);
    let named: Vec<_> = instances.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (noun, has) = if instances.len() == 1 { ("static member", "keeps its") } else { ("static members", "keep their") };
    Some(format!(
        "Group `{group}` has the {noun} {}{others}, which {has} partitions until the session ends (45 s by default), also after a \
         clean stop; with --instance-id {first} a run takes over at once",
        named.join(", ")
    ))
}

impl StartedSession<'_> {
    /// Runs the flow to its end. In a replay, `sink` gets the original records of the letters, and `transform` their values.
    ///
    /// # Errors
    /// When the run failed, or a bad record needs attention.
    pub(crate) async fn run<K: Sink + 'static>(
        self,
        sink: K,
        transform: Option<Transform>,
        limits: Limits,
        source_limits: &SourceLimits,
    ) -> Result<(), Error> {
        match self.replay.clone() {
            None => self.deliver(sink, transform, limits, source_limits).await,
            Some(rules) => {
                let transform = chain(Some(admit(rules)), transform);
                self.deliver(ReplaySink(sink), transform, limits, source_limits).await
            }
        }
    }

    async fn deliver<K: Sink + 'static>(
        self,
        sink: K,
        transform: Option<Transform>,
        limits: Limits,
        source_limits: &SourceLimits,
    ) -> Result<(), Error> {
        let bad_records = self.bad_records;
        self.report(source_limits, None, |source, dead_letters, observer, stop| {
            Pipeline { source, sink, dead_letters, transform, bad_records, limits, observer, stop }.run()
        })
        .await
    }

    /// As [`Self::run`]; commits follow the offset map that `writer` writes of what `recorder` learns.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn run_mapped<K: Sink + 'static>(
        self,
        sink: K,
        transform: Option<Transform>,
        limits: Limits,
        source_limits: &SourceLimits,
        (writer, recorder): (MapWriterHandle, CopyRecorder),
    ) -> Result<(), Error> {
        let bad_records = self.bad_records;
        self.report(source_limits, None, |source, dead_letters, observer, stop| {
            let source = MappedSource::new(source, writer);
            let observer: Arc<dyn Observer> = Arc::new(vec![observer, Arc::new(recorder)]);
            Pipeline { source, sink, dead_letters, transform, bad_records, limits, observer, stop }.run()
        })
        .await
    }

    /// Runs the flow in transactions to its end, with `extra_lines` below the progress bar.
    ///
    /// # Errors
    /// When the run failed, or a bad record needs attention.
    pub(crate) async fn run_transactions(
        self,
        flow: impl TransactionFlow,
        target: TransactionalProducer,
        transform: Option<Transform>,
        limits: Limits,
        source_limits: &SourceLimits,
        extra_lines: ExtraLines,
    ) -> Result<(), Error> {
        let bad_records = self.bad_records;
        self.report(source_limits, Some(extra_lines), |source, dead_letters, observer, stop| {
            TransactionLoop { source, flow, target, dead_letters, transform, bad_records, limits, observer, stop }.run()
        })
        .await
    }

    async fn report<W: Future<Output = RunReport>>(
        self,
        source_limits: &SourceLimits,
        extra_lines: Option<ExtraLines>,
        work: impl FnOnce(KafkaSource, Option<DeadLetters<DeadLetterSink>>, Arc<dyn Observer>, watch::Receiver<bool>) -> W,
    ) -> Result<(), Error> {
        let source = self.read.open(&self.section, &self.plan, self.rules, source_limits)?;
        let bounded = self.read.is_bounded();
        let presentation = Presentation {
            headline: self.headline,
            expected: bounded.then(|| self.plan.backlog().min(self.read.count.unwrap_or(u64::MAX))),
            bounded,
            reporting: self.reporting,
            extra_lines,
            letters: self.letters,
        };
        run::run_reported(self.context, presentation, |observer, stop| work(source, self.dead_letters, observer, stop)).await
    }
}

/// Warns that a destination which does not exist holds nothing of what the group has read in these partitions.
pub(crate) fn warn_of_missing_destination<'a>(partitions: impl IntoIterator<Item = &'a PlannedPartition>, name: &str) {
    let committed = partitions.into_iter().filter(|planned| planned.reason == StartReason::Committed);
    let offsets: i64 = committed.map(|planned| (planned.start.0 - planned.low).max(0)).sum();
    if offsets > 0 {
        let read = counted(offsets.unsigned_abs(), "offset");
        tracing::warn!(
            target: LOSS_TARGET,
            "{name} does not exist, and the group has read {read} that the topic still holds: they are left out; \
             --from-beginning reads them again"
        );
    }
}

/// Returns a line for each topic of which records behind an open transaction are not read, by partition and number of offsets.
pub(crate) fn held_back_lines(held_back: impl Iterator<Item = (Partition, i64)>) -> Vec<String> {
    let mut topics: BTreeMap<Topic, (usize, i64)> = BTreeMap::new();
    for (partition, offsets) in held_back {
        let (partitions, sum) = topics.entry(partition.topic).or_default();
        *partitions += 1;
        *sum += offsets;
    }
    let line = |(topic, (partitions, offsets)): (Topic, (usize, i64))| {
        let partitions = counted(partitions as u64, "partition");
        let offsets = grouped(offsets.cast_unsigned());
        format!(
            "{topic}: an open transaction holds readers back in {partitions}: the last {offsets} offsets are not read; \
             --read-uncommitted reads them"
        )
    };
    topics.into_iter().map(line).collect()
}

/// Returns the lines that show a plan: what is read, from where, and why; one per partition or one per topic. `count` is the number
/// of records after which the run stops.
fn plan_lines(plan: &ReadPlan, requested: Pos, each_partition: bool, count: Option<u64>) -> Vec<String> {
    let why = |planned: &PlannedPartition| match planned.reason {
        StartReason::Requested => requested.to_string(),
        reason => reason.to_string(),
    };
    let number = |number: i64| grouped(u64::try_from(number).unwrap_or(0));
    let limit = count.map(|count| format!("after {} in all", counted(count, "record")));
    if each_partition {
        let line = |planned: &PlannedPartition| {
            let (start, end) = (number(planned.start.0), number(planned.end));
            let read = format!("{}: from {start} ({}), the end is at {end}", planned.partition, why(planned));
            if let Some(stop) = planned.stop.filter(|stop| *stop <= planned.start.0) {
                return format!("{read}, nothing to read: the stop is at {}", number(stop));
            }
            let stops: Vec<_> =
                planned.stop.map(|stop| format!("at {}", number(stop))).into_iter().chain(limit.clone()).collect();
            let stop =
                if stops.is_empty() { "then waits for new records".to_owned() } else { format!("stops {}", stops.join(" or ")) };
            format!("{read}, {stop}")
        };
        return plan.partitions.iter().map(line).collect();
    }
    let mut topics: BTreeMap<(Topic, String), (usize, i64, bool)> = BTreeMap::new();
    for planned in &plan.partitions {
        let (count, records, stops) = topics.entry((planned.partition.topic, why(planned))).or_default();
        *count += 1;
        *records += (planned.stop.unwrap_or(planned.end) - planned.start.0).max(0);
        *stops |= planned.stop.is_some();
    }
    let line = |((topic, why), (count, records, stops)): (&(Topic, String), &(usize, i64, bool))| {
        let partitions = counted(*count as u64, "partition");
        // Offsets have gaps.
        let records = u64::try_from(*records).unwrap_or(0);
        let (catch_up, most) = (counted(records, "record"), format!("at most {}", counted(records, "record")));
        let reads = match (&limit, stops) {
            (_, true) if records == 0 => "nothing to read: there is no record between start and stop".to_owned(),
            (None, false) if records == 0 => "nothing to catch up; waits for new records".to_owned(),
            (None, false) => format!("{catch_up} to catch up, then new ones"),
            (None, true) => format!("reads {most}, then stops"),
            (Some(limit), false) => format!("has {most}, stops {limit}"),
            (Some(limit), true) => format!("has {most}, then stops, or {limit}"),
        };
        format!("{topic}: {partitions}, from: {why}; {reads}")
    };
    topics.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NextOffset;

    fn lines(partitions: &[(i64, Option<i64>)], each_partition: bool, count: Option<u64>) -> Vec<String> {
        let planned = (0..).zip(partitions).map(|(index, (start, stop))| PlannedPartition {
            partition: Partition::new("planned", index),
            low: 0,
            end: 10_000,
            log_end: 10_000,
            committed: None,
            start: NextOffset(*start),
            reason: StartReason::Committed,
            topic_id: None,
            stop: *stop,
        });
        let plan = ReadPlan { group: "g".to_owned(), flow: "f".to_owned(), partitions: planned.collect() };
        plan_lines(&plan, Pos::Committed, each_partition, count)
    }

    #[test]
    fn static_members_that_a_run_waits_for_are_named() {
        let line = |names: &[&str]| static_members_line("g", names.iter().map(ToString::to_string).collect());
        assert_eq!(line(&[]), None);
        assert_eq!(
            line(&["tour-1"]).as_deref(),
            Some(
                "Group `g` has the static member `tour-1`, which keeps its partitions until the session ends (45 s by default), also \
                 after a clean stop; with --instance-id tour-1 a run takes over at once"
            )
        );
        let many = line(&["g", "f", "e", "d", "c", "b", "a"]).unwrap();
        assert!(
            many.starts_with("Group `g` has the static members `a`, `b`, `c`, `d`, `e` and 2 more, which keep their "),
            "{many}"
        );
    }

    #[test]
    fn a_plan_counts_records_at_most_because_offsets_have_gaps() {
        let start = "planned: 1 partition, from: committed; ";
        for (partition, count, reads) in [
            ((0, None), None, "10,000 records to catch up, then new ones"),
            ((10_000, None), None, "nothing to catch up; waits for new records"),
            ((0, Some(2_500)), None, "reads at most 2,500 records, then stops"),
            ((9_999, None), Some(5), "has at most 1 record, stops after 5 records in all"),
        ] {
            assert_eq!(lines(&[partition], false, count), [format!("{start}{reads}")]);
        }
    }

    #[test]
    fn a_plan_says_that_there_is_nothing_to_read_if_the_start_is_beyond_the_stop() {
        let nothing = "nothing to read: there is no record between start and stop";
        for count in [None, Some(5)] {
            let expected = [format!("planned: 2 partitions, from: committed; {nothing}")];
            assert_eq!(lines(&[(500, Some(100)), (100, Some(100))], false, count), expected);
        }
        let one = "planned: 2 partitions, from: committed; reads at most 50 records, then stops";
        assert_eq!(lines(&[(500, Some(100)), (50, Some(100))], false, None), [one], "one that is beyond does not count");
        let expected = [
            "planned/0: from 5,000 (committed), the end is at 10,000, nothing to read: the stop is at 100",
            "planned/1: from 50 (committed), the end is at 10,000, stops at 100",
        ];
        assert_eq!(lines(&[(5_000, Some(100)), (50, Some(100))], true, None), expected);
    }
}
