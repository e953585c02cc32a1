//! `sdl aggregate`: login events to counts by window.

use std::time::Duration;

use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs, ReportArgs, ShapingArgs, SourceLimits, transform};
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::{Context, dead_letters, protect, session};
use crate::connectors::kafka::{Admin, OffsetSpec, ReadPlan, StartReason, TopicPlan, TransactionalProducer, value_at};
use crate::error::Error;
use crate::logins::event::FIELDS;
use crate::pipeline::transaction::{Receipt, TransactionLoop};
use crate::pipeline::{Limits, Refused};
use crate::profile::{KafkaSection, Secret};
use crate::record::{Partition, Topic};
use crate::report::{RunInfo, grouped};
use crate::windows::counts::Counts;
use crate::windows::flow::{EndOffsetQuery, TimeSource, WindowFlow, WindowFlowOptions};
use crate::windows::live_view::LiveView;
use crate::windows::output::{OutputForm, WindowFormatter};
use crate::windows::projection::FieldSelector;
use crate::windows::restart_state::restart_states;
use crate::windows::tumbling::{WindowRules, Windows};

/// The topic that is read when none is named.
const LOGINS: &str = "user-login";
/// Session timeout, unless the profile sets one: a restart waits this long for the place of a killed run.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const MEMBERS_INTERVAL: Duration = Duration::from_millis(250);
/// Records in a batch.
const BATCH: usize = 10_000;

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
    select: ReadArgs,
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
        let live_view = LiveView::new(pattern.unwrap_or_else(|| self.select.topics.names.join(",")), &self.count.by);
        let watching = RunReporting::begin(&self.watch, Some(live_view.metrics())).await?;
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
            wait_for_members(&admin, &group, session, self.watch.dry_run).await?;
        }
        // Opened before the plan: it ends the transaction of an earlier run, and the offsets are final.
        let target = if self.watch.dry_run {
            None
        } else {
            let id = format!("sdl-aggregate-{group}");
            Some(TransactionalProducer::open(&section, id, rules.flow.clone(), self.care.wait).await?)
        };
        let plan = self.select.plan(&admin, &section, &topics, &group, &rules, context.global.yes).await?;
        let states = restart_states(&plan)
            .map_err(|refused| Refused { hint: "read the topic again with --from-beginning".to_owned(), ..refused })?;
        let last_output = states.values().max_by_key(|state| state.closed).and_then(|state| state.last_output);
        let total = self.totals(&section, &formatter, to, last_output, &plan).await?;
        let mut lines = session::plan_lines(&plan, self.watch.dry_run || context.global.verbose > 0);
        lines.push(self.count.line(to));
        lines.extend((!is_there).then(|| format!("{to} does not exist: it will be created, with one partition")));
        lines.extend((total.events > 0).then(|| format!("totals continue from {} events", grouped(total.events))));
        for line in lines {
            tracing::info!("{line}");
        }
        let Some(target) = target else {
            context.say("dry run: nothing was changed\n");
            return Ok(());
        };
        let run = run::new_id();
        let dead_letters = dead_letters::open(&self.care, context, &section, &run, !self.no_create).await?;
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
                let live_view = live_view.clone();
                Box::new(move || live_view.table())
            }),
        };
        let options = WindowFlowOptions {
            windows: Windows::new(self.count.rules(), plan.partitions.iter().map(|planned| planned.partition)),
            selector,
            time: self.count.time,
            formatter,
            target: to,
            total,
            last_output,
            end_offsets: end_offsets(admin, self.select.read_uncommitted),
            idle: self.count.window + self.count.grace + self.count.idle,
            live_view,
        };
        run::run_reported(context, show, |observer, stop| {
            let work = TransactionLoop {
                source,
                flow: WindowFlow::new(options),
                target,
                dead_letters,
                transform,
                bad_records: self.care.bad_records(),
                limits: self.limits(),
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
        last_output: Option<Receipt>,
        plan: &ReadPlan,
    ) -> Result<Counts, Error> {
        let Some((index, offset)) = last_output.filter(|_| formatter.has_totals() && !self.count.reset_totals) else {
            return Ok(Counts::default());
        };
        let partition = Partition { topic: to, index };
        let refused = |what: &str| {
            Error::Refused(Refused {
                what: what.to_owned(),
                numbers: vec![format!("last summary: offset {offset} of {partition}")],
                hint: "restart the totals at zero with --reset-totals".to_owned(),
            })
        };
        if plan.partitions.iter().any(|planned| planned.reason == StartReason::Requested) {
            return Err(refused("the totals include events that would be read again or skipped"));
        }
        let value = value_at(section, partition, offset).await?;
        let totals = value.and_then(|value| formatter.totals(&value));
        totals.ok_or_else(|| refused("the last summary, which holds the totals, is gone, or counts other fields"))
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

    /// Returns what the group's offsets are committed for: windows of another kind have other edges.
    fn flow(&self, section: &KafkaSection, to: Topic) -> String {
        let field = if self.time == TimeSource::Event { format!(" {}", self.time_field) } else { String::new() };
        format!("aggregate {}/{to} {} {}{field}", section.name, humantime::format_duration(self.window), self.time_name())
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

/// Waits until the group has no members, at most until the session of a killed one has expired.
async fn wait_for_members(admin: &Admin, group: &str, session: Duration, dry_run: bool) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + session + Duration::from_secs(2);
    let mut logged = false;
    loop {
        let members = admin.group_members(group).await?.unwrap_or_default();
        if members.is_empty() || dry_run {
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
