//! `sdl aggregate`: login events to counts by window.

use std::time::Duration;

use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs, ReportArgs, ShapingArgs, SourceLimits, transform};
use crate::commands::session::{FlowNames, FlowTarget, Session};
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{
    Admin, OffsetSpec, PlannedPartition, ReadPlan, StartReason, TopicInfo, TopicPlan, TransactionalProducer, WatchedTopic,
    value_at,
};
use crate::error::Error;
use crate::error::hints::may_not_create;
use crate::logins::event::FIELDS;
use crate::pipeline::transaction::Receipt;
use crate::pipeline::{Refused, TargetWatch};
use crate::profile::{KafkaSection, Secret};
use crate::record::{Partition, Topic};
use crate::report::counted;
use crate::windows::counts::Counts;
use crate::windows::flow::{EndOffsetQuery, TimeSource, WindowFlow, WindowFlowOptions};
use crate::windows::live_view::LiveView;
use crate::windows::output::{OutputForm, WindowFormatter};
use crate::windows::projection::FieldSelector;
use crate::windows::restart_state::restart_states;
use crate::windows::tumbling::{WindowRules, Windows};

/// The windows of a topic, which are counted from events that are settled.
const WINDOWS: LostContent = LostContent {
    missing: "",
    what: "the windows that were written to it",
    hint: "count everything again with --from-beginning --reset-totals, or go on without these windows: start again, with \
           --reset-totals if there are totals",
};
/// The topic that is read when none is named.
const LOGINS: &str = "user-login";
/// Session timeout, unless the profile sets one: a restart waits this long for the place of a killed run.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const MEMBERS_INTERVAL: Duration = Duration::from_millis(250);
/// Records in a batch.
const BATCH: usize = 10_000;
const SOURCE_LIMITS: SourceLimits = SourceLimits { batch: BATCH, buffer_bytes: 16_000_000, commit_interval: None };

/// Count login events by window into another topic of the same cluster
///
/// Windows do not overlap. A window is published once: when the time of the events has passed its end and --grace, or when no
/// more events arrive. Events after that are late, and counted as late. The messages of a window, the offsets of its events, and
/// the state for a restart are committed in one transaction: a reader of committed records sees each event counted once, whatever
/// kills the run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    read: ReadArgs,
    /// Section to read from and to write to
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    source: String,
    /// Topic to write to [default: user-login-processed for summaries, user-login-analytics for rows]
    #[arg(long, value_name = "NAME")]
    to_topic: Option<String>,
    /// Refuse to create the target topic
    #[arg(long)]
    no_create: bool,
    #[command(flatten)]
    count: Count,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    failure: FailureArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Flags that say what is counted, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is counted")]
struct Count {
    /// Length of a window: whole seconds
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    window: Duration,
    /// Clock that tells when an event happened
    #[arg(long, value_name = "CLOCK", default_value = "event")]
    time: TimeSource,
    /// Field with the time of an event, in Unix seconds or milliseconds or ISO 8601, as a number or as text
    #[arg(long, value_name = "FIELD", default_value = "timestamp")]
    time_field: String,
    /// How long a window stays open for late events after its end
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = crate::commands::args::parse_duration)]
    grace: Duration,
    /// Idle time after which a partition stops holding windows open
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = crate::commands::args::parse_duration)]
    idle: Duration,
    /// Fields to count by value
    #[arg(long, value_name = "FIELDS", default_value = "device_type,locale", value_delimiter = ',')]
    by: Vec<String>,
    /// Fields whose absence is counted [default: all fields of a login]
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    required: Vec<String>,
    /// Form of the output
    #[arg(long, value_name = "FORM", default_value = "summary")]
    emit: OutputForm,
    /// Restart the totals of the summaries at zero, instead of continuing from the last one
    #[arg(long)]
    reset_totals: bool,
}

const EXAMPLES: &str = "\
Only one instance of a group is active: a second one waits until the session of the first could expire (10 s), and is refused then.
Without --group, the group is aggregate-<target topic>. A run that ends by itself (--until-caught-up, --count, --stop) closes its
last window: events that fall into it afterwards are late.

Examples:
  sdl aggregate                                        user-login into user-login-processed, every 10 s
  sdl aggregate --emit rows --window 20s               rows by device type, locale and total into user-login-analytics
  sdl aggregate --until-caught-up -o json              everything up to now, with the last window
  sdl aggregate logins --by country --required user_id,country --to-topic logins-by-country
  sdl tail user-login-processed --follow               show the result";

fn seconds(text: &str) -> Result<Duration, String> {
    let length = crate::commands::args::parse_duration(text)?;
    if length < Duration::from_secs(1) || length.subsec_nanos() > 0 {
        return Err("use whole seconds, as in 10s or 1m".to_owned());
    }
    Ok(length)
}

impl Args {
    /// Returns how the run is reported.
    #[must_use]
    pub(crate) fn reporting(&self) -> ReportArgs {
        self.report.clone()
    }

    /// Runs the command.
    ///
    /// # Errors
    /// When the run does not end well; see the exit codes.
    pub async fn run(mut self, context: &Context) -> Result<(), Error> {
        let mut section = context.kafka(&self.source)?;
        let session_timeout = shorten_session(&mut section);
        if self.read.topics.names.is_empty() && self.read.topics.topics_matching.is_none() {
            self.read.topics.names = vec![LOGINS.to_owned()];
        }
        if self.read.partitions.is_some() {
            return Err(Error::Usage {
                what: "a window is counted over all partitions of its topics".to_owned(),
                hint: "remove --partitions".to_owned(),
            });
        }
        let selector = self.count.selector()?;
        let transform = self.shaping.build(&context.profile, section.mask_key.as_ref())?.map(transform);
        let pattern = self.read.topics.topics_matching.as_ref().map(|pattern| pattern.as_str().to_owned());
        let live_view = LiveView::new(pattern.unwrap_or_else(|| self.read.topics.names.join(",")), &self.count.by);
        let args = (&self.read, &self.failure, &self.report);
        let session = Session::connect(context, "aggregate", section, args, Some(live_view.metrics())).await?;
        let mut target = WindowTopic::find(&self, context, &session, session_timeout).await?;
        let admin = session.admin.clone();
        let Some(session) = session.start(&mut target).await? else { return Ok(()) };

        let table = live_view.clone();
        let flow = WindowFlow::new(WindowFlowOptions {
            windows: Windows::new(self.count.rules(), session.plan.partitions.iter().map(|planned| planned.partition)),
            selector,
            time: self.count.time,
            formatter: self.count.formatter(),
            target: target.topic,
            total: target.total,
            last_output: target.last_output,
            end_offsets: end_offsets(admin, self.read.read_uncommitted),
            idle: self.count.window + self.count.grace + self.count.idle,
            live_view,
        });
        let producer = target.producer.expect("the session has taken the group over");
        let written = WatchedTopic::new(target.admin, target.topic);
        let watcher = watch_topic(written, TargetWatch::default(), WINDOWS, || false);
        let producer = producer.watched_by(watcher);
        let limits = self.failure.limits(BATCH, self.read.count);
        let table = Box::new(move || table.table());
        Box::pin(session.run_transactions(flow, producer, transform, limits, &SOURCE_LIMITS, table)).await
    }

    /// Refuses to read a topic that the run writes.
    fn check_loop(&self, topics: &[TopicInfo], to: Topic) -> Result<(), Error> {
        let is_read = |name: &str| self.read.topics.fits(name) || topics.iter().any(|topic| topic.topic.name() == name);
        let (what, flag) = match &self.failure.dead_letters {
            _ if is_read(to.name()) => (format!("topic `{to}` would be read and written"), "--to-topic"),
            Some(DeadLetterTarget::Topic { section: None, name }) if is_read(name) => {
                (format!("topic `{name}` of the dead letters would be read"), "--dead-letters")
            }
            _ => return Ok(()),
        };
        Err(Error::Usage { what, hint: format!("name another with {flag}{}", self.read.topics.or_exclude("it")) })
    }
}

/// The topic of the windows during the start, and what earlier runs left in it.
struct WindowTopic<'a> {
    names: FlowNames,
    args: &'a Args,
    context: &'a Context,
    admin: Admin,
    section: KafkaSection,
    session_timeout: Duration,
    topic: Topic,
    exists: bool,
    producer: Option<TransactionalProducer>,
    /// Everything up to the last closed window.
    total: Counts,
    last_output: Option<Receipt>,
    /// The group, and one of the partitions that it reads.
    claimed: Option<(String, Partition)>,
}

impl<'a> WindowTopic<'a> {
    async fn find(args: &'a Args, context: &'a Context, session: &Session<'_>, session_timeout: Duration) -> Result<Self, Error> {
        let topic = Topic::named(args.to_topic.as_deref().unwrap_or(match args.count.emit {
            OutputForm::Summary => "user-login-processed",
            OutputForm::Rows => "user-login-analytics",
        }));
        args.check_loop(&session.topics, topic)?;
        protect::refuse_read_only(&session.section, &[topic], protect::OTHER_SOURCE)?;
        let (admin, section) = (session.admin.clone(), session.section.clone());
        let exists = admin.find_topic(topic.name()).await?.is_some();
        if !exists && args.no_create {
            return Err(may_not_create(&format!("topic `{topic}`"), &section.name).into());
        }
        let names = FlowNames {
            shown: topic.name().to_owned(),
            default_group: Some(format!("aggregate-{topic}")),
            ..FlowNames::new(&section.name, &args.count.flow(topic))
        };
        let (producer, total, last_output, claimed) = (None, Counts::default(), None, None);
        Ok(Self { names, args, context, admin, section, session_timeout, topic, exists, producer, total, last_output, claimed })
    }

    /// Returns the totals so far: those of the last summary.
    async fn totals(&self, plan: &ReadPlan) -> Result<Counts, Error> {
        let formatter = self.args.count.formatter();
        if !formatter.has_totals() || self.args.count.reset_totals {
            return Ok(Counts::default());
        }
        let Some((index, offset)) = self.last_output else {
            self.refuse_lost_totals(plan).await?;
            return Ok(Counts::default());
        };
        let partition = Partition { topic: self.topic, index };
        let refused = |what: &str| {
            Error::Refused(Refused {
                what: what.to_owned(),
                numbers: vec![format!("last summary: offset {offset} of {partition}")],
                hint: "restart the totals at zero with --reset-totals".to_owned(),
            })
        };
        if let Some(what) = moved_start(plan) {
            return Err(refused(what));
        }
        let value = value_at(&self.section, partition, offset).await?;
        let totals = value.and_then(|value| formatter.totals(&value));
        totals.ok_or_else(|| refused("the last summary, which holds the totals, is gone, or counts other fields"))
    }

    /// Refuses to begin at zero in a topic that holds windows: brokers delete the positions of a group, and the place of its totals,
    /// with the topic that was read.
    async fn refuse_lost_totals(&self, plan: &ReadPlan) -> Result<(), Error> {
        let has_position = plan.partitions.iter().any(|planned| planned.committed.is_some());
        let Some(target) = self.admin.find_topic(self.topic.name()).await?.filter(|_| !has_position) else { return Ok(()) };
        let partitions: Vec<Partition> = (0..target.partitions).map(|index| Partition { topic: self.topic, index }).collect();
        let low = self.admin.ends(&partitions, OffsetSpec::Start).await?;
        let end = self.admin.ends(&partitions, OffsetSpec::Log).await?;
        let full: Vec<String> = partitions
            .iter()
            .filter(|partition| low[partition] < end[partition])
            .map(|partition| format!("log of {partition}: {}..{}", low[partition], end[partition]))
            .collect();
        if full.is_empty() {
            return Ok(());
        }
        Err(Error::Refused(Refused {
            what: format!(
                "group `{}` has no committed offset, and topic `{}` holds windows: the totals are lost",
                plan.group, self.topic
            ),
            numbers: full,
            hint: "a source topic that was re-created has lost the positions of all its groups; go on with the group that counted before \
                   (--group), or restart the totals at zero with --reset-totals"
                .to_owned(),
        }))
    }
}

impl FlowTarget for WindowTopic<'_> {
    fn names(&self) -> &FlowNames {
        &self.names
    }

    fn topics(&self) -> Vec<Topic> {
        vec![self.topic]
    }

    fn may_create(&self) -> bool {
        !self.args.no_create
    }

    /// Opens the producer, which ends the transaction of an earlier run.
    async fn take_over(&mut self, group: &str, flow: &str) -> Result<(), Error> {
        protect::confirm(self.context, &self.section, &[self.topic])?;
        if self.args.read.instance_id.is_none() {
            wait_for_members(&self.admin, group, self.session_timeout).await?;
        }
        let (id, wait) = (transactional_id(group), self.args.failure.wait);
        self.producer = Some(TransactionalProducer::open(&self.section, id, flow.to_owned(), wait).await?);
        if self.args.read.instance_id.is_none() {
            // One that started at the same moment has joined: it is fenced now, and leaves when it notices.
            match wait_for_members(&self.admin, group, self.session_timeout).await {
                Err(Error::Refused(_)) => {}
                waited => waited?,
            }
        }
        Ok(())
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        if !self.exists {
            self.admin.check_creatable(self.topic.name())?;
        }
        let states = restart_states(plan)
            .map_err(|refused| Refused { hint: "read the topic again with --from-beginning".to_owned(), ..refused })?;
        self.claimed = plan.partitions.first().map(|planned| (plan.group.clone(), planned.partition));
        self.last_output = states.values().max_by_key(|state| state.closed).and_then(|state| state.last_output);
        self.total = self.totals(plan).await?;
        let mut lines = vec![self.args.count.line(self.topic)];
        lines.extend((!self.exists).then(|| format!("{} does not exist: it will be created, with one partition", self.topic)));
        lines.extend((self.total.events > 0).then(|| format!("totals continue from {}", counted(self.total.events, "event"))));
        Ok(lines)
    }

    fn check_client(&self) -> Result<(), Error> {
        Ok(TransactionalProducer::check_client(&self.section, "sdl-aggregate")?)
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        if !self.exists {
            let name = self.topic.name().to_owned();
            self.admin
                .create_topic(&TopicPlan {
                    name,
                    partitions: 1,
                    replication: None,
                    config: Vec::new(),
                    optional_config: Vec::new(),
                })
                .await?;
        }
        if self.admin.is_embedded() {
            tracing::warn!(
                "Embedded brokers lose the offsets of transactions: the next run counts and writes each window again."
            );
        } else if let (Some(producer), Some((group, partition))) = (&self.producer, &self.claimed) {
            producer.prove_newest(group, *partition).await?;
        }
        Ok(())
    }
}

impl Count {
    fn selector(&self) -> Result<FieldSelector, Error> {
        let time = (self.time == TimeSource::Event).then_some(self.time_field.as_str());
        FieldSelector::new(&self.by, &self.required(), time).map_err(|what| Error::Usage {
            what,
            hint: "--by, --required and --time-field take fields with commas, dots between the names of nested ones".to_owned(),
        })
    }

    fn required(&self) -> Vec<String> {
        if self.required.is_empty() { FIELDS.map(ToOwned::to_owned).to_vec() } else { self.required.clone() }
    }

    fn formatter(&self) -> WindowFormatter {
        WindowFormatter { form: self.emit, counted: self.by.clone(), required: self.required() }
    }

    fn rules(&self) -> WindowRules {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        WindowRules { length: millis(self.window), grace: millis(self.grace), idle: millis(self.idle) }
    }

    /// Returns the name of the destination in the flow of the commit metadata: windows of another kind have other edges.
    fn flow(&self, to: Topic) -> String {
        let field = if self.time == TimeSource::Event { format!(" {}", self.time_field) } else { String::new() };
        format!("{to} {} {}{field}", humantime::format_duration(self.window), self.time_name())
    }

    fn time_name(&self) -> &'static str {
        match self.time {
            TimeSource::Event => "event time",
            TimeSource::Record => "record time",
            TimeSource::Processing => "processing time",
        }
    }

    fn line(&self, to: Topic) -> String {
        let what = match self.emit {
            OutputForm::Summary => "a summary",
            OutputForm::Rows => "rows",
        };
        let (window, by) = (humantime::format_duration(self.window), self.by.join(", "));
        format!("{to}: {what} every {window} of {}, by {by}", self.time_name())
    }
}

/// Returns what is wrong with totals if a start was requested: they belong to the committed offsets.
fn moved_start(plan: &ReadPlan) -> Option<&'static str> {
    let requested = || plan.partitions.iter().filter(|planned| planned.reason == StartReason::Requested);
    let included = |planned: &PlannedPartition| planned.committed.as_ref().map_or(planned.low, |committed| committed.next.0);
    requested().next()?;
    let is_read_again = requested().any(|planned| planned.start.0 < included(planned));
    let is_skipped = requested().any(|planned| planned.start.0 > included(planned));
    Some(match (is_read_again, is_skipped) {
        (true, false) => "the totals include events that would be read again: they would count twice",
        (false, true) => "the start skips events that the totals do not include yet: they would never count",
        (true, true) => "the totals include events that would be read again, and lack others that the start skips",
        (false, false) => "the totals continue at the committed offsets only, and a start was requested",
    })
}

/// Asks for the ends up to which this run reads.
fn end_offsets(admin: Admin, read_uncommitted: bool) -> EndOffsetQuery {
    let spec = if read_uncommitted { OffsetSpec::Log } else { OffsetSpec::Stable };
    Box::new(move |partitions| {
        let admin = admin.clone();
        Box::pin(async move { Ok(admin.ends(&partitions, spec).await?.into_iter().collect()) })
    })
}

/// Sets a short session timeout, unless the profile sets one: a restart waits for the place of a killed run. Returns the timeout.
fn shorten_session(section: &mut KafkaSection) -> Duration {
    let name = "session.timeout.ms";
    if let Some((_, value)) = section.properties.iter().find(|(property, _)| property == name) {
        return value.reveal().parse().map_or(SESSION_TIMEOUT, Duration::from_millis);
    }
    section.properties.push((name.to_owned(), Secret::new(SESSION_TIMEOUT.as_millis().to_string())));
    SESSION_TIMEOUT
}

/// Returns the transactional id of a group.
pub(crate) fn transactional_id(group: &str) -> String {
    format!("sdl-aggregate-{group}")
}

/// Waits until the group has no members, at most until the session of a killed one has expired.
async fn wait_for_members(admin: &Admin, group: &str, session: Duration) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + session + Duration::from_secs(2);
    let mut logged = false;
    loop {
        let members = admin.group_members(group).await?.unwrap_or_default();
        if members.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Refused(Refused {
                what: format!("another instance of the group `{group}` is active"),
                numbers: members,
                hint: "only one instance of a group can be active: stop the other one, or use another group with --group NAME"
                    .to_owned(),
            }));
        }
        if !std::mem::replace(&mut logged, true) {
            tracing::info!("Group `{group}` has a member; if it was killed, its session expires in {} s.", session.as_secs());
        }
        tokio::time::sleep(MEMBERS_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::CommittedOffset;
    use crate::record::NextOffset;

    #[test]
    fn a_requested_start_is_refused_with_its_effect_on_the_totals() {
        let moved = |starts: &[(i64, StartReason)]| {
            let planned = (0..).zip(starts).map(|(index, (start, reason))| PlannedPartition {
                partition: Partition::new("totals", index),
                low: 0,
                end: 9,
                log_end: 9,
                committed: Some(CommittedOffset { next: NextOffset(5), metadata: String::new(), leader_epoch: None }),
                start: NextOffset(*start),
                reason: *reason,
                topic_id: None,
                stop: None,
            });
            moved_start(&ReadPlan { group: "g".to_owned(), flow: "f".to_owned(), partitions: planned.collect() })
        };
        let (requested, committed) = (StartReason::Requested, StartReason::Committed);
        assert_eq!(moved(&[(5, committed), (5, committed)]), None);
        for (starts, part) in [
            ([(0, requested), (5, committed)], "read again: they would count twice"),
            ([(9, requested), (5, requested)], "they would never count"),
            ([(9, requested), (0, requested)], "read again, and lack others that the start skips"),
            ([(5, requested), (5, requested)], "at the committed offsets only"),
        ] {
            let what = moved(&starts).unwrap();
            assert!(what.contains(part), "{what}");
        }
    }
}
