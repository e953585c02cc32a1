//! Looking again and again: on a terminal in place, in a pipe one round below the other.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::commands::lag::rows::RowLayout;
use crate::commands::lag::survey::SurveyedCluster;
use crate::commands::lag::throughput::{Sample, ThroughputTracker};
use crate::commands::lag::{Args, LagReport, look, rows};
use crate::commands::{Context, run};
use crate::error::Error;
use crate::terminal::ListingFormat;

/// How long a place is remembered that is not seen, in milliseconds.
const REMEMBERED: i64 = 600_000;

/// What a person gets who does not say.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Shows round after round until it is interrupted.
///
/// # Errors
/// When what was named is not there, no cluster answers at first, or standard output takes no more.
pub(super) async fn watch(
    args: &Args,
    format: ListingFormat,
    mut clusters: Vec<SurveyedCluster>,
    context: &Context,
) -> Result<(), Error> {
    let mut stop = run::stop_signal()?;
    let every = args.repeat.interval.unwrap_or(INTERVAL);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let in_place = format == ListingFormat::Table && stdout().is_terminal();
    let layout = RowLayout { pace: true, ..args.layout() };
    let (mut paces, mut screen, mut last, mut said, mut first) =
        (ThroughputTracker::default(), None, String::new(), String::new(), true);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        let mut round = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            round = look(&mut clusters, &args.selection) => round,
        };
        if std::mem::take(&mut first) {
            args.selection.check(&round)?;
            if round.surveys.is_empty()
                && let Some((_, trouble)) = round.troubles.pop()
            {
                return Err(trouble);
            }
        }
        take_in(&mut paces, &mut round);
        let mut listing = rows::listing(&round, layout);
        let mut notes: String = args.unsaid(&round, layout, listing.is_empty()).iter().flat_map(|line| [line, "\n"]).collect();
        notes.extend(round.troubles.iter().map(|(_, trouble)| trouble.render()));
        if !in_place {
            listing.omit_header(!last.is_empty());
        }
        let table = if format == ListingFormat::Table && listing.is_empty() { String::new() } else { listing.render(format) };
        let time = jiff::Timestamp::from_millisecond(round.at).unwrap_or_default();
        if in_place {
            screen.get_or_insert_with(Alternate::enter);
            let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
            let every = humantime::format_duration(every);
            let head = format!("{time} · every {every} · Ctrl-C ends\n\n");
            Alternate::show(&format!("{head}{table}{notes}"))?;
            last = format!("{time}\n{table}{notes}");
        } else {
            if format == ListingFormat::Table {
                context.print(&format!("{}{time:.0}\n{table}", if last.is_empty() { "" } else { "\n" }))?;
            } else {
                context.print(&table)?;
            }
            last = table;
            if said != notes {
                context.say(&notes);
                said = notes;
            }
        }
    }
    if screen.take().is_some() {
        // What was seen last stays, where the shell goes on.
        context.print(&last)?;
    }
    Ok(())
}

/// Takes a round in, and tells its standings how they move.
fn take_in(paces: &mut ThroughputTracker, round: &mut LagReport) {
    for survey in &mut round.surveys {
        for group in &mut survey.groups {
            for standing in &mut group.standings {
                let (Some(committed), Some(end)) = (standing.committed, standing.end()) else { continue };
                let look = Sample { at: survey.at, committed, end };
                standing.pace = paces.see(&survey.section, &group.group.name, standing.partition, look);
            }
        }
    }
    paces.forget_before(round.at - REMEMBERED);
}

/// The terminal's other screen, left when dropped.
struct Alternate;

impl Alternate {
    /// Goes there, without a cursor; lines that are too long are cut off.
    fn enter() -> Self {
        let _ = write(b"\x1b[?1049h\x1b[?25l\x1b[?7l");
        Self
    }

    /// Shows the first lines of `text`, as many as there is room for.
    fn show(text: &str) -> std::io::Result<()> {
        let room = rustix::termios::tcgetwinsize(stdout()).map_or(24, |size| usize::from(size.ws_row)).max(4);
        let lines: Vec<_> = text.lines().collect();
        let shown = if lines.len() > room { room - 1 } else { lines.len() };
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

impl Drop for Alternate {
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
