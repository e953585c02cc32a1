//! Logging: on stderr as text or JSON, and in a file per run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use tracing::field::Field;
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::pipeline::awaited::CONNECT_TARGET;
use crate::pipeline::{BadRecordAction, Event, Failure, LOSS_TARGET, Observer, Reason, RunSide, SideProblem, Tally};
use crate::report::screen::Screen;
use crate::report::summary::Summary;
use crate::terminal::{escape_controls, escape_controls_json};

/// The target of the lines that report the end of a run.
const RUN_END_TARGET: &str = "sdl::ending";

/// Logs the summary of a run.
pub(crate) fn log_summary(summary: &Summary) {
    let Summary { command, run, ended, tally, reads, .. } = summary;
    let Tally { read, delivered, dead_lettered, skipped, filtered, released, undelivered, .. } = tally;
    let seconds = summary.seconds;
    let (read, produced) = (reads.then_some(*read), (!reads).then_some(*read));
    tracing::info!(
        target: RUN_END_TARGET,
        command, run, ended, read, produced, delivered, dead_lettered, skipped, filtered, released, undelivered, seconds, "Finished."
    );
}

/// Logs the error that ends the program.
pub(crate) fn log_error(what: &str, causes: &[String], hint: Option<&str>, exit_code: u8) {
    tracing::error!(target: RUN_END_TARGET, error = what, causes = causes.join(": "), hint, exit_code, "Failed.");
}

/// The format and level of log lines.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    pub(crate) json: bool,
    /// Only errors, and warnings that records are skipped.
    pub(crate) quiet: bool,
    /// 1: operational detail, 2: every record.
    pub(crate) verbose: u8,
    pub(crate) color: bool,
    /// A log file in addition to stderr.
    pub(crate) file: Option<PathBuf>,
}

/// Initialises logging for the process. A second call has no effect.
///
/// # Errors
/// When the log file cannot be created.
pub(crate) fn init(options: &LogOptions, screen: &Screen) -> Result<(), Failure> {
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::INFO,
        (_, 1) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = |level: LevelFilter| {
        let library = if options.verbose >= 2 { LevelFilter::DEBUG } else { LevelFilter::OFF };
        let loss = level.max(LevelFilter::WARN);
        let targets = Targets::new().with_target("sdl", level).with_target(LOSS_TARGET, loss).with_target("librdkafka", library);
        if screen.is_terminal() { targets } else { targets.with_target(CONNECT_TARGET, LevelFilter::OFF) }
    };
    // People read the summary on stderr; programs read it as a log line.
    let on_stderr = if options.json { targets(level) } else { targets(level).with_target(RUN_END_TARGET, LevelFilter::OFF) };
    let file = options.file.as_ref().map(|path| {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let opened = made.and_then(|()| OpenOptions::new().append(true).create(true).mode(0o600).open(path));
        opened.map_err(|error| unwritable(path, &error))
    });
    let file = file.transpose()?;
    let on_screen = screen.clone();
    let stderr = if options.json {
        let on_screen = move || EscapedJson(on_screen.clone());
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(on_screen).boxed()
    } else {
        let on_screen = move || on_screen.clone();
        let layer = tracing_subscriber::fmt::layer().with_target(false).fmt_fields(debug_fn(write_field).delimited(" "));
        let layer = layer.with_ansi(options.color).with_writer(on_screen);
        if screen.is_terminal() { layer.with_timer(TimeOfDay).boxed() } else { layer.boxed() }
    };
    let in_file = file.map(|file| {
        let layer = if options.json {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(Mutex::new(file)).boxed()
        } else {
            let layer = tracing_subscriber::fmt::layer().with_target(false).fmt_fields(debug_fn(write_field).delimited(" "));
            layer.with_ansi(false).with_writer(Mutex::new(file)).boxed()
        };
        layer.with_filter(targets(level.max(LevelFilter::INFO)))
    });
    let layers: Vec<_> = std::iter::once(stderr.with_filter(on_stderr)).chain(in_file).collect();
    // A second run in the same process, as in a test, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Checks that the log file at `path` could be created with its directories, and creates nothing.
///
/// # Errors
/// When it could not.
pub(crate) fn check_log_file(path: &Path) -> Result<(), Failure> {
    let above = path.ancestors().skip(1);
    let existing = above.map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }).find(|dir| dir.exists());
    let writable = existing.map_or(Ok(()), |dir| access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from));
    let is_directory = existing.is_none_or(Path::is_dir);
    let checked = if is_directory { writable } else { Err(Errno::NOTDIR.into()) };
    checked.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot write the log file `{}`", path.display())).because(error)
}

/// The local time of day, for people who watch; files and pipes have the whole time.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}

/// Writes a field without control characters: fields quote records and servers.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    match field.name() {
        "message" => write!(writer, "{}", escape_controls(&text)),
        name => write!(writer, "{name}={}", escape_controls(&text)),
    }
}

/// Writes JSON to the screen without control characters; JSON escapes only a part of them.
struct EscapedJson(Screen);

impl io::Write for EscapedJson {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Screen::write(&self.0, &escape_controls_json(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most reasons of one stall that are logged.
const MAX_REASONS: usize = 4;

/// The most characters of the reason of a bad record that are logged: servers write some of them.
const MAX_REASON_CHARS: usize = 300;

fn bounded(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Logs the events of a run.
#[derive(Debug)]
pub(crate) struct LogObserver {
    every_record: bool,
    /// Whether records were read that are not settled.
    has_unsettled: AtomicBool,
    logged: Mutex<LoggedProblems>,
}

/// The reasons that are logged, by side.
#[derive(Debug, Default)]
struct LoggedProblems {
    /// Of the stalls that are not over: clients alternate between a few.
    stalled: BTreeMap<RunSide, (Instant, BTreeSet<String>)>,
    /// The last reason why a part of the records was refused.
    refused: BTreeMap<RunSide, String>,
}

impl LogObserver {
    /// Returns the observer; with `every_record` it logs each record.
    #[must_use]
    pub(crate) fn new(every_record: bool) -> Self {
        Self { every_record, has_unsettled: AtomicBool::default(), logged: Mutex::default() }
    }

    /// Logs the start and the end of a side's stall, each of its first reasons once.
    fn log_problem(&self, side: RunSide, problem: Option<&SideProblem>) {
        let logged = &mut *self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (stalled, resumed) = stall_messages(side);
        if let Some(SideProblem { reason, is_stalled: true, .. }) = problem {
            let (_, reasons) = logged.stalled.entry(side).or_insert_with(|| (Instant::now(), BTreeSet::new()));
            if reasons.len() < MAX_REASONS && reasons.insert(reason.clone()) {
                tracing::warn!(reason = reason.as_str(), side = side.name(), "{stalled}");
            }
            return;
        }
        if let Some((since, _)) = logged.stalled.remove(&side) {
            let after = format!("{} s", since.elapsed().as_secs());
            tracing::info!(after, side = side.name(), "{resumed}");
        }
        if let Some(SideProblem { reason, .. }) = problem
            && logged.refused.insert(side, reason.clone()).as_ref() != Some(reason)
        {
            tracing::info!(reason = reason.as_str(), side = side.name(), "Some records are refused for now, and sent again.");
        }
    }
}

/// Returns the lines for the start and the end of a stall.
fn stall_messages(side: RunSide) -> (&'static str, &'static str) {
    match side {
        RunSide::Source => ("Reading stalled.", "Reading resumed."),
        RunSide::Target => ("Delivery stalled.", "Delivery resumed."),
        RunSide::DeadLetters => ("Dead letters stalled.", "Dead letters resumed."),
        RunSide::Commits => ("Commits stalled.", "Commits resumed."),
    }
}

impl Observer for LogObserver {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Assigned(assigned) => {
                for one in *assigned {
                    tracing::debug!(partition = %one.partition, offset = one.start.0, "Partition assigned.");
                }
            }
            Event::Released { partitions, lost, records } => {
                let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                tracing::debug!(partitions = names.join(" "), lost, records, "Partitions revoked.");
            }
            Event::Answered(record, outcome) => {
                tracing::trace!(record = %record, outcome = outcome.name(), code = outcome.reason().map(Reason::code), "Record answered.");
            }
            Event::Retrying { records, attempt, pause, reason } => {
                let pause = humantime::format_duration(*pause).to_string();
                tracing::debug!(records, attempt, pause, code = reason.code(), "Retrying records.");
            }
            Event::Bisecting { records, reason } => {
                tracing::debug!(records, code = reason.code(), "Bisecting a batch that failed as a whole.");
            }
            Event::Bad { record, reason, action } => match action {
                BadRecordAction::DeadLetter => {
                    let (code, text) = (reason.code(), bounded(reason.message()));
                    tracing::warn!(record = %record, code, reason = &*text, "Bad record: it goes to the dead letters.");
                }
                BadRecordAction::Skipped => {
                    let (code, text) = (reason.code(), bounded(reason.message()));
                    tracing::warn!(record = %record, code, reason = &*text, "Bad record: skipped.");
                }
                BadRecordAction::Stops => tracing::debug!(record = %record, code = reason.code(), "Bad record: stopping."),
            },
            Event::Committed(positions) => {
                for (partition, next) in *positions {
                    tracing::debug!(partition = %partition, offset = next.0, "Committed.");
                }
            }
            Event::Problem { side, problem } => self.log_problem(*side, *problem),
            Event::Progress(tally) => self.has_unsettled.store(tally.unsettled() > 0, Ordering::Relaxed),
            Event::Draining(why) if !self.has_unsettled.load(Ordering::Relaxed) => {
                tracing::info!(why, "Ending the run: nothing is in flight.");
            }
            Event::Draining(why) if *why == "interrupted" => {
                tracing::info!(why, "Draining records in flight; a second signal ends the run at once.");
            }
            Event::Draining(why) => tracing::info!(why, "Draining records in flight."),
            _ => {}
        }
    }

    fn wants_every_record(&self) -> bool {
        self.every_record
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Partition, Record};

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_of_a_bad_record_has_its_reason_in_bounds_and_without_control_characters() {
        let (captured, log) = (Captured::default(), LogObserver::new(false));
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).fmt_fields(debug_fn(write_field).delimited(" "));
        let partition = Partition::new("t", 0);
        let record = Record { partition, offset: 7, timestamp: None, key: None, value: None, headers: Vec::new() };
        let reasons = [Reason::new("not_json", "\u{202e}not JSON"), Reason::new("long", "é".repeat(MAX_REASON_CHARS + 1))];
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_writer(move || writer.clone())), || {
            for (reason, action) in reasons.iter().zip([BadRecordAction::DeadLetter, BadRecordAction::Skipped]) {
                log.on(&Event::Bad { record: &record, reason, action });
            }
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let first = ["WARN", "Bad record: it goes to the dead letters.", "record=t/0@7", "code=\"not_json\"", "202e}not JSON\""];
        assert!(first.iter().all(|part| lines[0].contains(part)) && !lines[0].contains('\u{202e}'), "{}", lines[0]);
        assert!(lines[1].contains("Bad record: skipped.") && lines[1].contains("ééé...\""), "{}", lines[1]);
        assert_eq!((lines.len(), lines[1].matches('é').count()), (2, MAX_REASON_CHARS));
    }

    #[test]
    fn a_run_that_ends_says_whether_records_are_in_flight() {
        let (captured, log) = (Captured::default(), LogObserver::new(false));
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            log.on(&Event::Draining("interrupted"));
            log.on(&Event::Progress(&Tally { read: 1, ..Tally::default() }));
            log.on(&Event::Draining("interrupted"));
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("Ending the run: nothing is in flight."), "{text}");
        assert!(lines[1].contains("Draining records in flight; a second signal ends the run at once."), "{text}");
    }

    #[test]
    fn the_lines_of_a_stall_name_its_side_and_each_reason_once() {
        let (captured, log) = (Captured::default(), LogObserver::new(false));
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        let problem = |side, state: Option<(&str, bool)>| {
            let problem =
                state.map(|(reason, is_stalled)| SideProblem { code: "code".to_owned(), reason: reason.to_owned(), is_stalled });
            log.on(&Event::Problem { side, problem: problem.as_ref() });
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for reason in ["no leader", "refused", "no leader", "refused", "silent", "reset", "closed"] {
                problem(RunSide::Source, Some((reason, true)));
            }
            problem(RunSide::Target, Some(("busy", false)));
            problem(RunSide::Target, None);
            problem(RunSide::Target, Some(("busy", false)));
            problem(RunSide::Target, Some(("no response", true)));
            problem(RunSide::Target, Some(("no response", true)));
            problem(RunSide::Source, None);
            problem(RunSide::Target, None);
            for side in [RunSide::DeadLetters, RunSide::Commits] {
                problem(side, Some(("away", true)));
                problem(side, None);
            }
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            ["level", "side", "message"].map(|field| line[field].as_str().unwrap().to_owned()).join(" ")
        };
        let expected = [
            "WARN source Reading stalled.",
            "WARN source Reading stalled.",
            "WARN source Reading stalled.",
            "WARN source Reading stalled.",
            "INFO target Some records are refused for now, and sent again.",
            "WARN target Delivery stalled.",
            "INFO source Reading resumed.",
            "INFO target Delivery resumed.",
            "WARN dead_letters Dead letters stalled.",
            "INFO dead_letters Dead letters resumed.",
            "WARN commits Commits stalled.",
            "INFO commits Commits resumed.",
        ];
        assert_eq!(text.lines().map(line).collect::<Vec<_>>(), expected);
        for line in text.lines() {
            assert_eq!(line.contains("\"after\":\""), line.contains(" resumed."), "the end says how long it lasted: {line}");
        }
    }
}
