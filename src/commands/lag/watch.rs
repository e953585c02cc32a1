//! `--watch`: on a terminal in place, in a pipe one report after another.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _, stdin, stdout};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::commands::Context;
use crate::commands::lag::repeated_survey::RepeatedSurvey;
use crate::commands::lag::rows::RowLayout;
use crate::commands::lag::{Args, remarks, rows, select_args};
use crate::commands::stop_signal::StopSignal;
use crate::error::Error;
use crate::lag::{LagReport, Sample, SurveyedCluster, ThroughputTracker};
use crate::terminal::ListingFormat;

/// Throughput samples are dropped this long after the last one, in milliseconds.
const SAMPLE_RETENTION: i64 = 600_000;

/// The columns that a narrow terminal does without, in this order.
pub(super) const LESS_IMPORTANT: [&str; 11] =
    ["host", "client", "protocol", "members", "end", "committed", "deleted_in_seconds", "partitions", "state", "behind", "notes"];

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Shows one report after another until interrupted.
///
/// # Errors
/// When a named group or topic does not exist, no cluster answers the first survey, or stdout is closed.
pub(super) async fn watch(
    args: &Args,
    format: ListingFormat,
    clusters: Vec<SurveyedCluster>,
    context: &Context,
) -> Result<(), Error> {
    let filter = args.filter();
    let every = args.repeat.interval.unwrap_or(DEFAULT_INTERVAL);
    let mut surveys = RepeatedSurvey::new(args, clusters, every, context);
    let in_place = format == ListingFormat::Table && stdout().is_terminal();
    let layout = RowLayout { throughput: true, ..args.layout() };
    let (mut tracker, mut screen, mut last, mut last_notes, mut first) =
        (ThroughputTracker::default(), None, String::new(), String::new(), true);
    while let Some(mut report) = surveys.next().await {
        if std::mem::take(&mut first) {
            select_args::check_names(&filter, &report)?;
            if report.surveys.is_empty()
                && let Some((_, error)) = report.failures.pop()
            {
                return Err(error.into());
            }
        }
        add_throughput(&mut tracker, &mut report);
        let mut listing = rows::listing(&report, layout);
        if in_place {
            listing.sort_by_largest("lag");
            listing.fit(AlternateScreen::size().1, &LESS_IMPORTANT);
        }
        let mut notes: String =
            remarks(&filter, &report, layout, listing.is_empty()).iter().flat_map(|line| [line, "\n"]).collect();
        notes.extend(report.failures.drain(..).map(|(_, error)| Error::from(error).render()));
        if !in_place {
            listing.omit_header(!last.is_empty());
        }
        let table = if format == ListingFormat::Table && listing.is_empty() { String::new() } else { listing.render(format) };
        let time = jiff::Timestamp::from_millisecond(report.at).unwrap_or_default();
        if in_place {
            screen.get_or_insert_with(|| (AlternateScreen::enter(), Keys::listen(&context.stop)));
            let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            let every = humantime::format_duration(every);
            let head = format!("{time} · every {every} · q ends\n\n");
            AlternateScreen::show(&format!("{head}{table}{notes}"))?;
            last = format!("{time}\n{table}{notes}");
        } else {
            if format == ListingFormat::Table {
                context.print(&format!("{}{time:.0}\n{table}", if last.is_empty() { "" } else { "\n" }))?;
            } else {
                context.print(&table)?;
            }
            last = table;
            if last_notes != notes {
                context.say(&notes);
                last_notes = notes;
            }
        }
    }
    if screen.take().is_some() {
        // The last report stays above the shell's prompt.
        context.print(&last)?;
    }
    Ok(())
}

fn add_throughput(tracker: &mut ThroughputTracker, report: &mut LagReport) {
    for survey in &mut report.surveys {
        for group in &mut survey.groups {
            for partition in &mut group.partitions {
                let (Some(committed), Some(end)) = (partition.committed, partition.end()) else { continue };
                let sample = Sample { at: survey.at, committed, end };
                partition.throughput = tracker.add(&survey.section, &group.group.name, partition.partition, sample);
            }
        }
    }
    tracker.drop_before(report.at - SAMPLE_RETENTION);
}

/// The keys of the terminal, read one by one and not shown, until dropped.
struct Keys(Option<Termios>);

impl Keys {
    /// Stops the command when q is pressed.
    fn listen(stop: &StopSignal) -> Self {
        let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        let set = tcsetattr(stdin(), OptionalActions::Now, &modes);
        let (shown, stop) = (before.clone(), stop.clone());
        stop.restore_by(move || {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &shown);
            AlternateScreen::leave();
        });
        // The thread ends with the process: it waits for a key.
        std::thread::spawn(move || {
            if stdin().lock().bytes().map_while(Result::ok).any(|key| matches!(key, b'q' | b'Q')) {
                stop.request();
            }
        });
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.iter().for_each(|before| _ = tcsetattr(stdin(), OptionalActions::Now, before));
    }
}

/// The terminal's alternate screen, left when dropped.
struct AlternateScreen;

impl AlternateScreen {
    /// Hides the cursor and turns line wrapping off.
    fn enter() -> Self {
        let _ = write(b"\x1b[?1049h\x1b[?25l\x1b[?7l");
        Self
    }

    fn leave() {
        let _ = write(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
    }

    /// Returns its lines and columns.
    fn size() -> (usize, usize) {
        tcgetwinsize(stdout()).map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)))
    }

    /// Shows as many lines of `text` as fit.
    fn show(text: &str) -> std::io::Result<()> {
        let rows = Self::size().0.max(4);
        let lines: Vec<_> = text.lines().collect();
        let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
        let mut frame = String::from("\x1b[H");
        for (number, line) in lines[..shown].iter().enumerate() {
            frame.push_str(if number == 0 { "" } else { "\r\n" });
            frame.push_str(line);
            frame.push_str("\x1b[K");
        }
        if shown < lines.len() {
            let left = lines.len() - shown;
            let _ = write!(frame, "\r\n... {left} more lines: narrow it with --only-lagging or --topic\x1b[K");
        }
        frame.push_str("\x1b[J");
        write(frame.as_bytes())
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        Self::leave();
    }
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
