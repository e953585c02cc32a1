//! `sdl aggregate`: login events to counts by window.

mod window_loop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs, ReportArgs, ShapingArgs, SourceLimits, transform};
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::{Context, dead_letters, protect, session};
use crate::connectors::kafka::{Admin, OffsetSpec, ReadPlan, TopicPlan, TransactionalProducer, commit_extension, value_at};
use crate::error::Error;
use crate::logins::event::FIELDS;
use crate::pipeline::{ConnectorError, Limits, Refused};
use crate::profile::{KafkaSection, Secret};
use crate::record::{Partition, Topic};
use crate::report::{RunInfo, grouped};
use crate::windows::counts::Counts;
use crate::windows::live_view::LiveView;
use crate::windows::output::{OutputForm, WindowFormatter};
use crate::windows::projection::FieldSelector;
use crate::windows::restart_state::RestartState;
use crate::windows::tumbling::{WindowRules, Windows};
use window_loop::{AggregateRun, TimeOf};

/// The topic that is read when none is named.
const LOGINS: &str = "user-login";
/// How long a member may be silent until its place is free, unless the profile says otherwise: a run that was killed is followed by
/// the next after so long.
const SESSION: Duration = Duration::from_secs(10);
/// Records in a batch.
const BATCH: usize = 10_000;

/// Count login events by window into another topic of the same cluster
///
/// Events are counted in windows that do not overlap. A window is published once, when the time of the events has passed its end
/// and --grace, or when nothing comes any more; what comes after that is late, and counted as such. What is published, the
/// offsets, and what a restart needs go in one transaction: whoever reads committed records sees each event counted once, however
/// often a run was killed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    select: ReadArgs,
    /// Section to read from and to write to
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    source: String,
    /// Topic to write to [default: user-login-processed for summaries, user-login-analytics for rows]
    #[arg(long, value_name = "NAME")]
    to_topic: Option<String>,
    /// Refuse to create the topic that is written to
    #[arg(long)]
    no_create: bool,
    #[command(flatten)]
    count: Count,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    care: FailureArgs,
    #[command(flatten)]
    watch: ReportArgs,
}

/// Flags that say what is counted, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is counted")]
struct Count {
    /// Length of a window: whole seconds
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    window: Duration,
    /// What says when an event happened
    #[arg(long, value_name = "WHAT", default_value = "event")]
    time: TimeOf,
    /// Field with the time of an event, in Unix seconds or milliseconds or ISO 8601, as a number or as text
    #[arg(long, value_name = "FIELD", default_value = "timestamp")]
    time_field: String,
    /// How long after its end a window is open for events that are late
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// How long a partition is silent until it holds no window up
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    idle: Duration,
    /// Fields that are counted by their values
    #[arg(long, value_name = "FIELDS", default_value = "device_type,locale", value_delimiter = ',')]
    by: Vec<String>,
    /// Fields of which is counted how many events lack them [default: all fields of a login]
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    required: Vec<String>,
    /// What is told of a window
    #[arg(long, value_name = "WHAT", default_value = "summary")]
    emit: OutputForm,
    /// Begin the totals of the summaries anew, instead of going on from the last one
    #[arg(long)]
    reset_totals: bool,
}

const EXAMPLES: &str = "\
One instance of a group is active: a second one waits as long as the first may be silent (the session, 10 s), and is refused then.
Without --group the group is aggregate-<topic that is written to>. A run that ends by itself (--until-caught-up, --count, --stop)
closes its last window: what falls into it afterwards is late.

Examples:
  sdl aggregate                                        user-login into user-login-processed, every 10 s
  sdl aggregate --emit rows --window 20s               rows by device type, locale and total into user-login-analytics
  sdl aggregate --until-caught-up -o json              what is there now, with its last window
  sdl aggregate logins --by country --required user_id,country --to-topic logins-by-country
  sdl tail user-login-processed --follow               look at the result";

fn seconds(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if length < Duration::from_secs(1) || length.subsec_nanos() > 0 {
        return Err("use whole seconds, as in 10s or 1m".to_owned());
    }
    Ok(length)
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the run does not end well; see the exit codes.
    pub async fn run(mut self, context: &Context) -> Result<(), Error> {
        let mut section = context.kafka(&self.source)?;
        let session = shorten_session(&mut section);
        if self.select.topics.names.is_empty() && self.select.topics.topics_matching.is_none() {
            self.select.topics.names = vec![LOGINS.to_owned()];
        }
        if self.select.partitions.is_some() {
            return Err(Error::Usage {
                what: "a window is counted over all partitions of its topics".to_owned(),
                hint: "leave --partitions out".to_owned(),
            });
        }
        let selector = self.count.selector()?;
        let formatter = self.count.formatter();
        let to = Topic::named(self.to_topic.as_deref().unwrap_or(match self.count.emit {
            OutputForm::Summary => "user-login-processed",
            OutputForm::Rows => "user-login-analytics",
        }));
        let pattern = self.select.topics.topics_matching.as_ref().map(|pattern| pattern.as_str().to_owned());
        let latest = LiveView::new(pattern.unwrap_or_else(|| self.select.topics.names.join(",")), &self.count.by);
        let watching = RunReporting::begin(&self.watch, Some(latest.appendix())).await?;
        let admin = Admin::connect(&section, self.care.wait).await?;
        let topics = self.select.topics(&admin, &section).await?;
        if topics.iter().any(|topic| topic.topic == to) || self.select.topics.fits(to.name()) {
            return Err(Error::Usage {
                what: format!("topic `{to}` would be read and written"),
                hint: "name another with --to-topic, or leave it out with --exclude".to_owned(),
            });
        }
        if let Some(DeadLetterTarget::Topic { name, .. }) = &self.care.dead_letters
            && (self.select.topics.fits(name) || topics.iter().any(|topic| topic.topic.name() == name))
        {
            return Err(Error::Usage {
                what: format!("topic `{name}` of the dead letters would be read"),
                hint: "name another with --dead-letters, or leave it out with --exclude".to_owned(),
            });
        }
        let is_there = admin.topic(to.name()).await?.is_some();
        if !is_there && self.no_create {
            return Err(Error::Refused(Refused {
                what: format!("topic `{to}` is not on `{}`, and may not be created (--no-create)", section.name),
                numbers: Vec::new(),
                hint: "create it, or leave --no-create out".to_owned(),
            }));
        }
        if !self.watch.dry_run {
            protect::confirm(context, &section, &format!("write to {to}"))?;
        }
        let group = self.select.group(&section, Some(&format!("aggregate-{to}")))?;
        let rules = self.select.rules(self.count.flow(&section, to));
        if self.select.instance_id.is_none() {
            wait_for_place(&admin, &group, session, self.watch.dry_run).await?;
        }
        // What an earlier run had begun is over once this is open, so that the offsets are certain.
        let transactions = if self.watch.dry_run {
            None
        } else {
            Some(TransactionalProducer::open(&section, &group, &rules.flow, to, self.care.wait).await?)
        };
        let plan = self.select.plan(&admin, &section, &topics, &group, &rules, context.global.yes).await?;
        let memos = memos(&plan)?;
        let told = memos.values().max_by_key(|memo| memo.closed).and_then(|memo| memo.last_output);
        let total = self.totals(&section, &formatter, to, told, &plan).await?;
        let mut lines = session::plan_lines(&plan, self.watch.dry_run || context.global.verbose > 0);
        lines.push(self.count.line(to));
        lines.extend((!is_there).then(|| format!("{to} is not there: it is created, with one partition")));
        lines.extend((total.events > 0).then(|| format!("totals go on from {} events", grouped(total.events))));
        for line in lines {
            tracing::info!("{line}");
        }
        let Some(transactions) = transactions else {
            context.say("dry run: nothing was changed\n");
            return Ok(());
        };
        let run = run::new_id();
        let letters = dead_letters::open(&self.care, context, &section, &run, !self.no_create).await?;
        if !is_there {
            admin
                .create_topic(&TopicPlan { name: to.name().to_owned(), partitions: 1, replication: None, config: Vec::new() })
                .await?;
        }
        plan.begin(&admin, &rules.flow).await?;

        let limits = SourceLimits { batch: BATCH, buffer_bytes: 16_000_000, commit_interval: Duration::from_secs(1) };
        let source = self.select.open(&section, &plan, rules, &limits)?;
        let transform = self.shaping.build(&context.profile, section.mask_key.as_ref())?.map(transform);
        let bounded = self.select.is_bounded();
        let show = Presentation {
            headline: RunInfo { command: "aggregate", run, route: format!("{} → {to}", section.name), has_positions: true },
            expected: bounded.then(|| plan.backlog().min(self.select.count.unwrap_or(u64::MAX))),
            bounded,
            reporting: watching,
            extra_lines: Some({
                let latest = latest.clone();
                Box::new(move || latest.table())
            }),
        };
        run::run_reported(context, show, |observer, stop| {
            let work = AggregateRun {
                source,
                transactions: Arc::new(transactions),
                windows: Windows::new(self.count.rules(), plan.partitions.iter().map(|planned| planned.partition)),
                selector,
                time: self.count.time,
                formatter,
                total,
                last_output: told,
                transform,
                bad_records: self.care.bad_records(),
                letters,
                limits: self.limits(),
                admin,
                end: if self.select.read_uncommitted { OffsetSpec::Log } else { OffsetSpec::Stable },
                silence: self.count.window + self.count.grace + self.count.idle,
                latest,
                observer,
                stop,
            };
            work.run()
        })
        .await
    }

    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            batch_bytes: usize::MAX,
            linger: Duration::ZERO,
            in_flight: 1,
            rate: self.care.rate,
            count: self.select.count,
            commit_each: false,
            retry_for: self.care.retry_for,
            breaker: self.care.dead_letter_limit.0,
            shutdown_timeout: self.care.shutdown_timeout,
        }
    }

    /// Returns the totals so far: those of the last summary.
    async fn totals(
        &self,
        section: &KafkaSection,
        formatter: &WindowFormatter,
        to: Topic,
        told: Option<(i32, i64)>,
        plan: &ReadPlan,
    ) -> Result<Counts, Error> {
        let Some((index, offset)) = told.filter(|_| formatter.has_totals() && !self.count.reset_totals) else {
            return Ok(Counts::default());
        };
        let place = Partition { topic: to, index };
        let refused = |what: String| {
            Error::Refused(Refused {
                what,
                numbers: vec![format!("last summary: offset {offset} of {place}")],
                hint: "begin the totals anew with --reset-totals".to_owned(),
            })
        };
        if plan.partitions.iter().any(|planned| planned.reason == crate::connectors::kafka::StartReason::Requested) {
            return Err(refused("the totals count events that are to be read again, or were skipped".to_owned()));
        }
        let value = value_at(section, place, offset).await?;
        value
            .and_then(|value| formatter.totals(&value))
            .ok_or_else(|| refused("the last summary, which has the totals, is gone, or counts other fields".to_owned()))
    }
}

impl Count {
    fn selector(&self) -> Result<FieldSelector, Error> {
        let time = (self.time == TimeOf::Event).then_some(self.time_field.as_str());
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

    /// Returns what the group's offsets are committed for: windows of another kind have other edges.
    fn flow(&self, section: &KafkaSection, to: Topic) -> String {
        let field = if self.time == TimeOf::Event { format!(" {}", self.time_field) } else { String::new() };
        format!("aggregate {}/{to} {} {}{field}", section.name, humantime::format_duration(self.window), self.time_name())
    }

    fn time_name(&self) -> &'static str {
        match self.time {
            TimeOf::Event => "event time",
            TimeOf::Record => "record time",
            TimeOf::Processing => "processing time",
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

/// Lets a member that was killed be followed soon, unless the profile says how soon; returns how long that is.
fn shorten_session(section: &mut KafkaSection) -> Duration {
    let name = "session.timeout.ms";
    if let Some((_, value)) = section.properties.iter().find(|(property, _)| property == name) {
        return value.reveal().parse().map_or(SESSION, Duration::from_millis);
    }
    section.properties.push((name.to_owned(), Secret::new(SESSION.as_millis().to_string())));
    SESSION
}

/// Waits until nobody is in the group, for as long as one may be there that was killed.
async fn wait_for_place(admin: &Admin, group: &str, session: Duration, dry_run: bool) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + session + Duration::from_secs(2);
    let mut told = false;
    loop {
        let members = admin.group_members(group).await?.unwrap_or_default();
        if members.is_empty() || dry_run {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::Refused(Refused {
                what: format!("another instance of the group `{group}` is active"),
                numbers: members,
                hint: "one instance of a group is active; stop it, or use another group with --group NAME".to_owned(),
            }));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("Group `{group}` has a member; if it was killed, its place is free in {} s.", session.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Returns what earlier runs noted.
fn memos(plan: &ReadPlan) -> Result<BTreeMap<Partition, RestartState>, Error> {
    let mut memos = BTreeMap::new();
    for planned in &plan.partitions {
        let Some(memo) =
            planned.committed.as_ref().and_then(|committed| RestartState::parse(&commit_extension(&committed.metadata)?))
        else {
            continue;
        };
        if planned.start == planned.committed.as_ref().map_or(planned.start, |committed| committed.next)
            && memo.read > planned.end
        {
            return Err(Error::from(ConnectorError::from(Refused {
                what: format!("{} ends before the offset that was read: it was truncated or re-created", planned.partition),
                numbers: vec![format!("read so far: {}", memo.read), format!("log end:     {}", planned.end)],
                hint: "read the topic anew with --from-beginning".to_owned(),
            })));
        }
        memos.insert(planned.partition, memo);
    }
    Ok(memos)
}
