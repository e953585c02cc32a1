//! Runs a pipeline at the terminal, in a pipe or as a service: signals, progress, summary, exit code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commands::args::{ReportArgs, SummaryFormat};
use crate::commands::{Context, LogFormat};
use crate::error::Error;
use crate::error::hints::with_hint;
use crate::number::counted;
use crate::pipeline::{
    Assignment, ConnectorError, Event, Failure, Observer, RunOutcome, RunReport, RunSide, Tally, UnassignedReason,
};
use crate::report::{
    Endpoint, ExtraLines, ExtraMetrics, Hindrance, LogObserver, Metrics, Monitored, RunBar, RunInfo, RunStatus, StatusLines,
    Summary, log_summary, were,
};

/// How often the bar is drawn and status lines are looked at without an event.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// The report of a run in progress. Serves its metrics until dropped.
pub(crate) struct RunReporting<'a> {
    args: &'a ReportArgs,
    status: Arc<RunStatus>,
    metrics: Option<(Arc<Metrics>, EndpointTask)>,
}

/// Ends the endpoint when dropped.
struct EndpointTask(JoinHandle<()>);

impl Drop for EndpointTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a> RunReporting<'a> {
    /// Begins to report a run, before the first server is contacted; serves metrics if the flags ask for them. `extra` adds the
    /// command's own metrics.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) async fn begin(args: &'a ReportArgs, extra: Option<ExtraMetrics>) -> Result<Self, Error> {
        let status = Arc::new(RunStatus::default());
        let mut metrics = None;
        if let Some(address) = args.metrics.filter(|_| !args.dry_run) {
            let endpoint =
                Endpoint::listen(address).await.map_err(|failure| failure.hint("choose another address with --metrics ADDR"))?;
            tracing::info!("Serving metrics at http://{0}/metrics, status at http://{0}/", endpoint.address());
            let observer = Arc::new(Metrics::new(Arc::clone(&status), extra));
            let task = EndpointTask(tokio::spawn(endpoint.serve(Arc::clone(&observer) as Arc<dyn Monitored>)));
            metrics = Some((observer, task));
        }
        Ok(Self { args, status, metrics })
    }

    /// Returns the observers that keep the run's status, and its metrics if they are served.
    pub(crate) fn observers(&self) -> Vec<Box<dyn Observer>> {
        let status: Box<dyn Observer> = Box::new(SharedObserver(Arc::clone(&self.status)));
        let metrics = self.metrics.iter().map(|(metrics, _)| Box::new(SharedObserver(Arc::clone(metrics))) as Box<dyn Observer>);
        std::iter::once(status).chain(metrics).collect()
    }
}

/// How a run is presented.
pub(crate) struct Presentation<'a> {
    pub(crate) headline: RunInfo,
    /// The number of records to read, if known.
    pub(crate) expected: Option<u64>,
    /// Whether the run ends by itself.
    pub(crate) bounded: bool,
    pub(crate) reporting: RunReporting<'a>,
    /// Lines below the progress bar.
    pub(crate) extra_lines: Option<ExtraLines>,
    /// The dead letters of the run, if it writes some.
    pub(crate) letters: Option<LettersOfRun>,
}

/// The dead letters of a run, for people: the places that they may go to.
pub(crate) struct LettersOfRun(pub(crate) Vec<LettersPlace>);

/// A place of dead letters.
#[derive(Clone)]
pub(crate) struct LettersPlace {
    /// The command that looks at them.
    pub(crate) look: String,
    /// Whether a letter of the run goes there.
    pub(crate) is_used: Arc<AtomicBool>,
}

impl LettersOfRun {
    /// Returns the command that looks at them, or those of several places.
    fn look(&self) -> String {
        let used = self.0.iter().filter(|place| place.is_used.load(Ordering::Relaxed));
        let looks: Vec<&str> = used.map(|place| place.look.as_str()).collect();
        if looks.is_empty() { self.0.first().map(|place| place.look.clone()).unwrap_or_default() } else { looks.join("; ") }
    }
}

/// Returns the id of a new run: the time and eight random hexadecimal digits.
pub(crate) fn new_id() -> String {
    format!("{}-{:08x}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), random())
}

pub(crate) fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    // A hasher's keys are random in every process and differ from call to call.
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}

/// Awaits `work(observer, stop)`, and reports it.
///
/// # Errors
/// When the run failed, or a bad record needs attention.
pub(crate) async fn run_reported<W: Future<Output = RunReport>>(
    context: &Context,
    presentation: Presentation<'_>,
    work: impl FnOnce(Arc<dyn Observer>, watch::Receiver<bool>) -> W,
) -> Result<(), Error> {
    let RunReporting { args, status, .. } = &presentation.reporting;
    status.describe(&presentation.headline);
    let mut observers = presentation.reporting.observers();
    observers.push(Box::new(LogObserver::new(context.global.verbose >= 2)));
    observers.push(Box::<UnassignedLog>::default());
    let bar = (context.screen.is_terminal() && !context.global.quiet)
        .then(|| Arc::new(RunBar::new(&context.screen, Arc::clone(status), presentation.expected, presentation.extra_lines)));
    let reads = presentation.headline.has_positions;
    if reads {
        context.stop.note_commits();
    }
    let lines = bar.is_none().then(|| Arc::new(StatusLines::new(Arc::clone(status), args.log_interval, reads)));
    if let Some(bar) = &bar {
        observers.push(Box::new(SharedObserver(Arc::clone(bar))));
    }
    if let Some(lines) = &lines {
        observers.push(Box::new(SharedObserver(Arc::clone(lines))));
    }
    let shown = bar.clone();
    let ticking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(STATUS_INTERVAL).await;
            if let Some(bar) = &shown {
                bar.refresh();
            }
            if let Some(lines) = &lines {
                lines.tick();
            }
        }
    });
    let report = work(Arc::new(observers), context.stop.receiver()).await;
    ticking.abort();
    if let Some(bar) = bar {
        bar.finish();
    }
    let look = presentation.letters.as_ref().map(LettersOfRun::look);
    let letters = look.as_deref();
    let summary = Summary::new(&presentation.headline, &report, status).with_letters(letters);
    log_summary(&summary);
    match args.output {
        SummaryFormat::Json => context.print(&summary.json())?,
        SummaryFormat::Text if context.global.log_format == LogFormat::Json => {}
        SummaryFormat::Text => context.screen.write(&summary.text(context.global.quiet)),
    }
    let hindrance = status.lock().hindrance();
    conclude(report, hindrance, presentation.bounded, reads, letters)
}

/// Returns the JSON summary of a run that a signal ended before it began.
pub(crate) fn unbegun_summary(command: &'static str, has_positions: bool) -> String {
    let headline = RunInfo { command, run: new_id(), route: String::new(), has_positions };
    let (outcome, elapsed) = (RunOutcome::Interrupted, Duration::ZERO);
    let report = RunReport { tally: Tally::default(), outcome, positions: Vec::new(), closed: Ok(()), elapsed };
    Summary::new(&headline, &report, &RunStatus::default()).json()
}

struct SharedObserver<T>(Arc<T>);

impl<T: Observer> Observer for SharedObserver<T> {
    fn on(&self, event: &Event<'_>) {
        self.0.on(event);
    }

    fn wants_every_record(&self) -> bool {
        self.0.wants_every_record()
    }
}

/// Logs that the group gives the run no partitions, and the first ones after such a wait.
#[derive(Default)]
struct UnassignedLog {
    is_waiting: AtomicBool,
}

impl Observer for UnassignedLog {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Unassigned(reason) => {
                self.is_waiting.store(true, Ordering::Relaxed);
                tracing::info!("{}", waiting_line(*reason));
            }
            Event::Assigned(assigned) if !assigned.is_empty() && self.is_waiting.swap(false, Ordering::Relaxed) => {
                tracing::info!("{}", assigned_line(assigned));
            }
            _ => {}
        }
    }
}

/// The most partitions that the line after a wait names.
const MAX_NAMED_PARTITIONS: usize = 10;

fn assigned_line(assigned: &[Assignment]) -> String {
    let partitions = if assigned.len() > MAX_NAMED_PARTITIONS {
        counted(assigned.len() as u64, "partition")
    } else {
        assigned.iter().map(|of| of.partition.to_string()).collect::<Vec<_>>().join(", ")
    };
    format!("Partitions assigned: {partitions}")
}

fn waiting_line(reason: UnassignedReason) -> String {
    let seconds = |session: Duration| session.as_millis().div_ceil(1000);
    match reason {
        UnassignedReason::Rebalancing { session_timeout, after_outage: true, .. } => format!(
            "Waiting for partitions: another member, or this process before the outage, still has them in the group; its session \
             ends within {} s",
            seconds(session_timeout)
        ),
        UnassignedReason::Rebalancing { session_timeout, after_outage: false, is_static } => format!(
            "Waiting for partitions: another member of the group may have died; its session ends within {} s{}",
            seconds(session_timeout),
            if is_static { "" } else { " (--instance-id avoids this)" }
        ),
        UnassignedReason::NoneLeft => {
            "Waiting for partitions: the other members of the group have them all, or have not handed any over yet".to_owned()
        }
    }
}

/// Returns the result of the command. Only one that reads topics has flags for bad records.
fn conclude(
    report: RunReport,
    hindrance: Option<Hindrance>,
    bounded: bool,
    reads: bool,
    letters: Option<&str>,
) -> Result<(), Error> {
    let RunReport { tally, outcome, closed, .. } = report;
    match outcome {
        RunOutcome::Failed(ConnectorError::Failed(failure)) => return Err(with_hint(failure).into()),
        RunOutcome::Failed(error) => return Err(error.into()),
        RunOutcome::Record(failure) => return Err(Error::Record(if reads { with_hint(failure) } else { failure })),
        RunOutcome::Complete | RunOutcome::Interrupted => {}
    }
    let Tally { dead_lettered, skipped, undelivered, .. } = tally;
    if undelivered > 0 {
        return Err(undelivered_error(undelivered, hindrance, reads));
    }
    closed.map_err(|error| match error {
        ConnectorError::Failed(failure) => {
            Error::Failed(failure.hint("everything was delivered; the next run repeats what was not committed"))
        }
        refused => refused.into(),
    })?;
    if bounded && dead_lettered + skipped > 0 {
        let parts = [(dead_lettered, "dead-lettered"), (skipped, "skipped")];
        let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let failure = Failure::new(format!("bad records were found: {}", parts.join(", ")));
        let rest = match (tally.delivered, tally.filtered) {
            (0, 0) => "nothing else was read",
            (0, _) => "everything else was filtered",
            (_, 0) => "everything else was delivered",
            _ => "everything else was delivered or filtered",
        };
        let advice = match letters {
            Some(look) if dead_lettered > 0 => format!("see the causes: {look}"),
            _ => "to keep bad records, use --dead-letters".to_owned(),
        };
        return Err(Error::Record(failure.hint(format!("{rest}; {advice}"))));
    }
    Ok(())
}

/// Returns the error of a run that was stopped before everything was delivered.
fn undelivered_error(records: u64, hindrance: Option<Hindrance>, reads: bool) -> Error {
    let failure = Failure::new(format!("{} {} and not delivered", were(records, "record"), if reads { "read" } else { "made" }));
    let when = match hindrance.as_ref().map(|hindrance| hindrance.side) {
        Some(RunSide::Target) => " when the target responds",
        Some(RunSide::DeadLetters) => " when dead letters can be written",
        Some(RunSide::Commits) => " when the group accepts commits",
        Some(RunSide::Source) | None => "",
    };
    let again = if reads { ": they are not committed, and are read once more" } else { "" };
    let failure = failure.hint(format!("start again{when}{again}"));
    Error::Record(hindrance.into_iter().fold(failure, |failure, hindrance| failure.because(hindrance.text())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::SideProblem;
    use crate::record::{NextOffset, Partition};

    #[test]
    fn records_that_another_member_reads_need_no_attention_and_others_do() {
        let concluded = |released, undelivered| {
            let tally = Tally { read: 16_000, released, undelivered, ..Tally::default() };
            let outcome = RunOutcome::Interrupted;
            let report = RunReport { tally, outcome, positions: Vec::new(), closed: Ok(()), elapsed: Duration::ZERO };
            conclude(report, None, false, true, None)
        };
        assert!(concluded(16_000, 0).is_ok());
        let error = concluded(15_999, 1).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (3, "1 record was read and not delivered"));
    }

    #[test]
    fn what_was_not_delivered_because_of_an_outage_has_its_cause_and_a_hint_that_fits() {
        let rendered = |side: Option<RunSide>, reads| {
            let status = RunStatus::default();
            let reason = "b:9092: connection refused".to_owned();
            let problem = SideProblem { code: "c".to_owned(), reason, is_stalled: true };
            if let Some(side) = side {
                status.on(&Event::Problem { side, problem: Some(&problem) });
            }
            let hindrance = status.lock().hindrance();
            undelivered_error(20_000, hindrance, reads).render()
        };
        assert_eq!(
            rendered(Some(RunSide::Target), true),
            "error: 20,000 records were read and not delivered\n  caused by: delivery stalled: b:9092: connection refused\n\
             hint: start again when the target responds: they are not committed, and are read once more\n"
        );
        assert!(rendered(Some(RunSide::DeadLetters), true).contains("hint: start again when dead letters can be written: "));
        assert_eq!(
            rendered(None, true),
            "error: 20,000 records were read and not delivered\nhint: start again: they are not committed, and are read once more\n"
        );
        assert_eq!(rendered(None, false), "error: 20,000 records were made and not delivered\nhint: start again\n");
    }

    #[test]
    fn a_wait_for_partitions_names_the_longest_session() {
        let rebalancing = |millis, after_outage, is_static| {
            let session_timeout = Duration::from_millis(millis);
            UnassignedReason::Rebalancing { session_timeout, after_outage, is_static }
        };
        assert_eq!(
            [45_000, 6_500].map(|millis| waiting_line(rebalancing(millis, false, false))),
            [45, 7].map(|seconds| format!(
                "Waiting for partitions: another member of the group may have died; its session ends within {seconds} s \
                 (--instance-id avoids this)"
            ))
        );
        let expected = "Waiting for partitions: another member, or this process before the outage, still has them in the group; its \
                        session ends within 45 s";
        assert_eq!(waiting_line(rebalancing(45_000, true, false)), expected);
        assert!(!waiting_line(rebalancing(45_000, false, true)).contains("--instance-id"), "it has one");
    }

    #[test]
    fn the_partitions_after_a_wait_are_named_or_counted() {
        let line = |count| {
            let start = NextOffset(0);
            let partitions = (0..count).map(|index| Partition::new("mem", index));
            let assigned = partitions.map(|partition| Assignment { partition, start, fingerprint: None, extension: None });
            assigned_line(&assigned.collect::<Vec<_>>())
        };
        assert_eq!(line(2), "Partitions assigned: mem/0, mem/1");
        assert_eq!(line(1_200), "Partitions assigned: 1,200 partitions");
    }

    #[test]
    fn the_hint_of_skipped_records_names_the_outcome_of_the_others() {
        let hint = |delivered, filtered| {
            let tally = Tally { read: delivered + filtered + 1, delivered, filtered, skipped: 1, ..Tally::default() };
            let outcome = RunOutcome::Complete;
            let report = RunReport { tally, outcome, positions: Vec::new(), closed: Ok(()), elapsed: Duration::ZERO };
            conclude(report, None, true, true, None).unwrap_err().hint().unwrap()
        };
        assert_eq!(hint(5, 0), "everything else was delivered; to keep bad records, use --dead-letters");
        assert_eq!(hint(0, 5), "everything else was filtered; to keep bad records, use --dead-letters");
        assert_eq!(hint(5, 5), "everything else was delivered or filtered; to keep bad records, use --dead-letters");
        assert_eq!(hint(0, 0), "nothing else was read; to keep bad records, use --dead-letters");
    }

    #[test]
    fn letters_are_where_those_of_the_run_went() {
        let place = |name: &str, is_used| LettersPlace {
            look: format!("sdl dlq stats topic:k/{name}"),
            is_used: Arc::new(AtomicBool::new(is_used)),
        };
        let of = |ordinary, quarantined| LettersOfRun(vec![place("bad", ordinary), place("bad-quarantine", quarantined)]);
        assert_eq!(of(false, false).look(), "sdl dlq stats topic:k/bad");
        assert_eq!(of(true, false).look(), "sdl dlq stats topic:k/bad");
        assert_eq!(of(false, true).look(), "sdl dlq stats topic:k/bad-quarantine");
        assert_eq!(of(true, true).look(), "sdl dlq stats topic:k/bad; sdl dlq stats topic:k/bad-quarantine");
    }
}
