//! The one way to start a moving command:
//! connect, topics, plan, show, dry run, confirm, dead letters, prepare, begin, open. A command supplies its [`FlowTarget`].

use std::collections::BTreeMap;

use crate::commands::args::{FailureArgs, ReadArgs, ReportArgs, SourceLimits};
use crate::commands::dead_letters::{self, DeadLetterSink};
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSource, PlannedPartition, ReadPlan, ResumeRules, TopicInfo};
use crate::error::Error;
use crate::pipeline::{BadRecordPolicy, DeadLetters, Limits, Pipeline, Sink, Transform};
use crate::profile::KafkaSection;
use crate::record::Topic;
use crate::report::{ExtraMetrics, RunInfo, grouped};

/// The other end of a flow, as far as the start needs it.
pub(crate) trait FlowTarget {
    /// Returns the section that is written to.
    fn section(&self) -> &str;

    /// Returns the name of the flow in commit metadata, behind the command: `elasticsearch/user-login`.
    fn flow(&self) -> String;

    /// Returns the consumer group that the destination's section names.
    fn default_group(&self) -> Option<&str> {
        None
    }

    /// Looks at the destination without changing it, and returns the lines of the plan that are about it.
    ///
    /// # Errors
    /// When the flow would not be safe, or the destination cannot be written to.
    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error>;

    /// Returns the cluster that is written to, if it is one that a profile can protect, and what is done to it.
    fn protected(&self) -> Option<(&KafkaSection, String)> {
        None
    }

    /// Returns the cluster of dead letters that name no section.
    fn dead_letter_home<'s>(&'s self, source: &'s KafkaSection) -> &'s KafkaSection {
        source
    }

    /// Returns whether records are written to a Kafka topic of this name in [`Self::section`].
    fn writes_topic(&self, _: &str) -> bool {
        false
    }

    /// Returns whether topics and indices may be created.
    fn may_create(&self) -> bool {
        true
    }

    /// Creates what is missing, and proves that the destination can be written to.
    ///
    /// # Errors
    /// When it cannot.
    async fn prepare(&mut self) -> Result<(), Error>;
}

/// A command that is connected to its source.
pub(crate) struct Session<'a> {
    context: &'a Context,
    command: &'static str,
    read: &'a ReadArgs,
    failure: &'a FailureArgs,
    report: &'a ReportArgs,
    reporting: RunReporting<'a>,
    pub(crate) section: KafkaSection,
    pub(crate) admin: Admin,
    pub(crate) topics: Vec<TopicInfo>,
}

/// A session whose start is complete: what remains is to open the ends and run.
pub(crate) struct StartedSession<'a> {
    context: &'a Context,
    command: &'static str,
    read: &'a ReadArgs,
    reporting: RunReporting<'a>,
    /// The sections that records are read from and written to.
    sections: [String; 2],
    run_id: String,
    rules: ResumeRules,
    bad_records: BadRecordPolicy,
    dead_letters: Option<DeadLetters<DeadLetterSink>>,
    pub(crate) section: KafkaSection,
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
        let topics = read.topics(&admin, &section).await?;
        Ok(Self { context, command, read, failure, report, reporting, section, admin, topics })
    }

    /// Plans, shows, confirms and prepares the flow; `None` after a dry run, which changes nothing.
    ///
    /// # Errors
    /// When it is not safe to go on, or the destination cannot be written to.
    pub(crate) async fn start(self, destination: &mut impl FlowTarget) -> Result<Option<StartedSession<'a>>, Error> {
        let Self { context, command, read, failure, report, reporting, section, admin, topics } = self;
        let group = read.group(&section, destination.default_group())?;
        let rules = read.rules(format!("{command} {}", destination.flow()));
        let plan = read.plan(&admin, &section, &topics, &group, &rules, context.global.yes).await?;
        let home = destination.dead_letter_home(&section);
        let writes = |section: &str, topic: &str| section == destination.section() && destination.writes_topic(topic);
        dead_letters::check_feedback(failure, context, home, &admin, (read, &topics), writes).await?;
        let about_destination = destination.plan(&plan).await?;
        for line in plan_lines(&plan, report.dry_run || context.global.verbose > 0).into_iter().chain(about_destination) {
            tracing::info!("{line}");
        }
        if report.dry_run {
            context.say("dry run: nothing was changed\n");
            return Ok(None);
        }
        if let Some((cluster, what)) = destination.protected() {
            protect::confirm(context, cluster, &what)?;
        }
        // Before the flow changes anything: a run that cannot set bad records aside must not begin.
        let run_id = run::new_id();
        let home = destination.dead_letter_home(&section);
        let dead_letters = dead_letters::open(failure, context, home, &run_id, destination.may_create()).await?;
        destination.prepare().await?;
        plan.begin(&admin, &rules.flow).await?;
        let sections = [section.name.clone(), destination.section().to_owned()];
        let bad_records = failure.bad_records();
        Ok(Some(StartedSession {
            context,
            command,
            read,
            reporting,
            sections,
            run_id,
            rules,
            bad_records,
            dead_letters,
            section,
            plan,
        }))
    }
}

impl StartedSession<'_> {
    /// Opens the source as planned.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) fn open(&self, limits: &SourceLimits) -> Result<KafkaSource, Error> {
        self.read.open(&self.section, &self.plan, self.rules.clone(), limits)
    }

    /// Runs the flow to its end.
    ///
    /// # Errors
    /// When the run failed, or a bad record needs attention.
    pub(crate) async fn run<K: Sink + 'static>(
        self,
        source: KafkaSource,
        sink: K,
        transform: Option<Transform>,
        limits: Limits,
    ) -> Result<(), Error> {
        let bounded = self.read.is_bounded();
        let [from, to] = self.sections;
        let presentation = Presentation {
            headline: RunInfo { command: self.command, run: self.run_id, route: format!("{from} → {to}"), has_positions: true },
            expected: bounded.then(|| self.plan.backlog().min(self.read.count.unwrap_or(u64::MAX))),
            bounded,
            reporting: self.reporting,
            extra_lines: None,
        };
        let (bad_records, dead_letters) = (self.bad_records, self.dead_letters);
        run::run_pipeline(self.context, presentation, |observer, stop| Pipeline {
            source,
            sink,
            dead_letters,
            transform,
            bad_records,
            limits,
            observer,
            stop,
        })
        .await
    }
}

/// Returns the lines that show a plan: what is read, from where, and why; one per partition or one per topic.
pub(crate) fn plan_lines(plan: &ReadPlan, each_partition: bool) -> Vec<String> {
    let number = |number: i64| grouped(u64::try_from(number).unwrap_or(0));
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
