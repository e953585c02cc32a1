//! The one way to start a moving command:
//! connect, topics, take over, plan, show, dry run, confirm, dead letters, prepare, begin, open. A command supplies its [`FlowTarget`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::commands::args::{FailureArgs, ReadArgs, ReportArgs, SourceLimits};
use crate::commands::dead_letters::{self, DeadLetterSink};
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSource, PlannedPartition, ReadPlan, ResumeRules, TopicInfo, TransactionalProducer};
use crate::error::Error;
use crate::pipeline::transaction::{TransactionFlow, TransactionLoop};
use crate::pipeline::{BadRecordPolicy, DeadLetters, Limits, Observer, Pipeline, RunReport, Sink, Transform};
use crate::profile::KafkaSection;
use crate::record::Topic;
use crate::report::{ExtraLines, ExtraMetrics, RunInfo, grouped};

/// The other end of a flow, as far as the start needs it.
pub(crate) trait FlowTarget {
    /// Returns the section that is written to.
    fn section(&self) -> &str;

    /// Returns the name of the destination in the summary.
    fn shown(&self) -> &str {
        self.section()
    }

    /// Returns the name of the flow in commit metadata, behind the command: `elasticsearch/user-login`.
    fn flow(&self) -> String;

    /// Returns the consumer group that the destination names.
    fn default_group(&self) -> Option<String> {
        None
    }

    /// Returns the key of the profile that sets the group, for a hint.
    fn group_setting(&self, source: &str) -> String {
        format!("`default_consumer_group_id` under [{source}]")
    }

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

    /// Returns the Kafka topics of [`Self::section`] that are written to.
    fn topics(&self) -> Vec<Topic> {
        Vec::new()
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

/// A session whose start is complete: what remains is to open the destination and run.
pub(crate) struct StartedSession<'a> {
    context: &'a Context,
    read: &'a ReadArgs,
    reporting: RunReporting<'a>,
    headline: RunInfo,
    rules: ResumeRules,
    bad_records: BadRecordPolicy,
    dead_letters: Option<DeadLetters<DeadLetterSink>>,
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
        let topics = read.topics(&admin, &section).await?;
        Ok(Self { context, command, read, failure, report, reporting, section, admin, topics })
    }

    /// Plans, shows, confirms and prepares the flow; `None` after a dry run, which changes nothing.
    ///
    /// # Errors
    /// When it is not safe to go on, or the destination cannot be written to.
    pub(crate) async fn start(self, destination: &mut impl FlowTarget) -> Result<Option<StartedSession<'a>>, Error> {
        let Self { context, command, read, failure, report, reporting, section, admin, topics } = self;
        let written = destination.topics();
        let writes =
            |section: &str, name: &str| section == destination.section() && written.iter().any(|topic| topic.name() == name);
        let home = destination.cluster().unwrap_or(&section);
        dead_letters::check_feedback(failure, context, home, &admin, (read, &topics), writes).await?;
        let group = read.group(&section, destination.default_group().as_deref(), &destination.group_setting(&section.name))?;
        let rules = read.rules(format!("{command} {}", destination.flow()));
        if !report.dry_run {
            destination.take_over(&group, &rules.flow).await?;
        }
        let plan = read.plan(&admin, &section, &topics, &group, &rules, context.global.yes).await?;
        let about_destination = destination.plan(&plan).await?;
        for line in plan_lines(&plan, report.dry_run || context.global.verbose > 0).into_iter().chain(about_destination) {
            tracing::info!("{line}");
        }
        if report.dry_run {
            context.say("dry run: nothing was changed\n");
            return Ok(None);
        }
        if let Some(cluster) = destination.cluster() {
            protect::confirm(context, cluster, &written)?;
        }
        // Before the flow changes anything: a run that cannot set bad records aside must not begin.
        let run = run::new_id();
        let home = destination.cluster().unwrap_or(&section);
        let dead_letters = dead_letters::open(failure, context, home, &run, destination.may_create()).await?;
        destination.prepare().await?;
        plan.begin(&admin, &rules.flow).await?;
        let route = format!("{} → {}", section.name, destination.shown());
        let headline = RunInfo { command, run, route, has_positions: true };
        let bad_records = failure.bad_records();
        Ok(Some(StartedSession { context, read, reporting, headline, rules, bad_records, dead_letters, section, plan }))
    }
}

impl StartedSession<'_> {
    /// Runs the flow to its end.
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
        let bad_records = self.bad_records;
        self.report(source_limits, None, |source, dead_letters, observer, stop| {
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
        };
        run::run_reported(self.context, presentation, |observer, stop| work(source, self.dead_letters, observer, stop)).await
    }
}

/// Returns the lines that show a plan: what is read, from where, and why; one per partition or one per topic.
fn plan_lines(plan: &ReadPlan, each_partition: bool) -> Vec<String> {
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
