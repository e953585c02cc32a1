//! `--watch`: on a terminal in place, in a pipe one report after another.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use crate::commands::Context;
use crate::commands::lag::repeated_survey::RepeatedSurvey;
use crate::commands::lag::rows::RowLayout;
use crate::commands::lag::{Args, remarks, rows, select_args};
use crate::error::Error;
use crate::lag::{LagReport, Sample, SurveyedCluster, ThroughputTracker};
use crate::terminal::ListingFormat;

/// Throughput samples are dropped this long after the last one, in milliseconds.
const SAMPLE_RETENTION: i64 = 600_000;

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
        let mut notes: String =
            remarks(&filter, &report, layout, listing.is_empty()).iter().flat_map(|line| [line, "\n"]).collect();
        notes.extend(report.failures.drain(..).map(|(_, error)| Error::from(error).render()));
        if !in_place {
            listing.omit_header(!last.is_empty());
        }
        let table = if format == ListingFormat::Table && listing.is_empty() { String::new() } else { listing.render(format) };
        let time = jiff::Timestamp::from_millisecond(report.at).unwrap_or_default();
        if in_place {
            screen.get_or_insert_with(AlternateScreen::enter);
            let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            let every = humantime::format_duration(every);
            let head = format!("{time} · every {every} · Ctrl-C ends\n\n");
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

/// The terminal's alternate screen, left when dropped.
struct AlternateScreen;

impl AlternateScreen {
    /// Hides the cursor and turns line wrapping off.
    fn enter() -> Self {
        let _ = write(b"\x1b[?1049h\x1b[?25l\x1b[?7l");
        Self
    }

    /// Shows as many lines of `text` as fit.
    fn show(text: &str) -> std::io::Result<()> {
        let rows = rustix::termios::tcgetwinsize(stdout()).map_or(24, |size| usize::from(size.ws_row)).max(4);
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
        let _ = write(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
