//! Log lines: on stderr as text or JSON, and in a file per run.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

use crate::pipeline::{BadRecordAction, Event, Failure, Observer, Tally};
use crate::report::{Screen, Summary};

/// The target of the lines that say how a run ended.
const ENDING: &str = "sdl::ending";

/// Logs the summary of a run, for logs that are read without its output.
pub fn log_summary(summary: &Summary) {
    let Summary { command, run, ended, tally, .. } = summary;
    let Tally { read, delivered, dead_lettered, skipped, filtered, released, undelivered, .. } = tally;
    let seconds = summary.seconds;
    tracing::info!(
        target: ENDING,
        command, run, ended, read, delivered, dead_lettered, skipped, filtered, released, undelivered, seconds, "Finished."
    );
}

/// Logs the error that ends the program.
pub fn log_error(what: &str, causes: &[String], hint: Option<&str>, exit_code: u8) {
    tracing::error!(target: ENDING, error = what, causes = causes.join(": "), hint, exit_code, "Failed.");
}

/// How log lines look and how many there are.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// JSON instead of text.
    pub json: bool,
    /// Only errors.
    pub quiet: bool,
    /// 1: operational detail, 2: every record.
    pub verbose: u8,
    /// Colour on stderr.
    pub color: bool,
    /// A file besides stderr.
    pub file: Option<PathBuf>,
}

/// Sets up logging for the rest of the process. A second call changes nothing.
///
/// # Errors
/// When the log file cannot be created.
pub fn init(options: &LogOptions, screen: &Screen) -> Result<(), Failure> {
    let level = match (options.quiet, options.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::INFO,
        (_, 1) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = |level: LevelFilter| {
        let library = if options.verbose >= 2 { LevelFilter::DEBUG } else { LevelFilter::OFF };
        Targets::new().with_target("sdl", level).with_target("librdkafka", library)
    };
    // How a run ended is on stderr anyway, for people; where lines are read by programs, it is one of them.
    let on_stderr = if options.json { targets(level) } else { targets(level).with_target(ENDING, LevelFilter::OFF) };
    let file = options.file.as_ref().map(|path| {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let opened = made.and_then(|()| OpenOptions::new().append(true).create(true).mode(0o600).open(path));
        opened.map_err(|error| {
            Failure::new(format!("cannot write the log file `{}`", path.display()))
                .because(error)
                .hint("name a directory that can be written to with --log-dir")
        })
    });
    let file = file.transpose()?;
    let screen = screen.clone();
    let on_screen = move || screen.clone();
    let stderr = if options.json {
        fmt::layer().json().flatten_event(true).with_writer(on_screen).boxed()
    } else {
        fmt::layer().with_target(false).with_ansi(options.color).with_writer(on_screen).boxed()
    };
    let in_file = file.map(|file| {
        let layer = if options.json {
            fmt::layer().json().flatten_event(true).with_writer(Mutex::new(file)).boxed()
        } else {
            fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file)).boxed()
        };
        layer.with_filter(targets(level.max(LevelFilter::INFO)))
    });
    let layers: Vec<_> = std::iter::once(stderr.with_filter(on_stderr)).chain(in_file).collect();
    // A second run in the same process, as in a test, keeps the first one's.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Tells the log what happens in a run.
#[derive(Debug)]
pub struct LogObserver {
    every_record: bool,
    /// What was last said to be wrong.
    trouble: Mutex<Option<String>>,
}

impl LogObserver {
    /// Returns the observer; with `every_record` it logs each single record.
    #[must_use]
    pub fn new(every_record: bool) -> Self {
        Self { every_record, trouble: Mutex::default() }
    }

    /// Logs that something is wrong, or is not any more; not the same thing twice.
    fn tell(&self, trouble: Option<&str>) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() == trouble {
            return;
        }
        *last = trouble.map(ToOwned::to_owned);
        if let Some(trouble) = trouble {
            tracing::warn!(trouble, "Stalled.");
        } else {
            tracing::info!("Going on.");
        }
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
                tracing::debug!(partitions = names.join(" "), lost, records, "Partitions released.");
            }
            Event::Answered(record, outcome) => tracing::trace!(record = %record, ?outcome, "Record answered."),
            Event::Retrying { records, attempt, pause, reason } => {
                let pause = humantime::format_duration(*pause).to_string();
                tracing::debug!(records, attempt, pause, code = reason.code(), "Records are sent again.");
            }
            Event::Bisecting { records, reason } => {
                tracing::debug!(records, code = reason.code(), "A batch failed as one and is halved.");
            }
            Event::Bad { record, reason, fate } => match fate {
                BadRecordAction::DeadLetter => tracing::warn!(record = %record, code = reason.code(), "Bad record: dead letter."),
                BadRecordAction::Skipped => tracing::warn!(record = %record, code = reason.code(), "Bad record: skipped."),
                BadRecordAction::Stops => tracing::debug!(record = %record, code = reason.code(), "Bad record: the run stops."),
            },
            Event::Committed(positions) => {
                for (partition, next) in *positions {
                    tracing::debug!(partition = %partition, offset = next.0, "Committed.");
                }
            }
            Event::Degraded(trouble) => self.tell(*trouble),
            Event::Draining(why) => tracing::debug!(why, "Reading has stopped; what is in flight is waited for."),
            _ => {}
        }
    }

    fn wants_every_record(&self) -> bool {
        self.every_record
    }
}
