//! The progress bar, and status lines for logs.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::number::grouped;
use crate::pipeline::{Event, Observer, RunSide, SideProblem};
use crate::report::run_status::{RunStatus, StatusFields};
use crate::report::screen::Screen;
use crate::terminal::{escape_controls, human_duration};

const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// The longest time between status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Returns additional lines below the bar.
pub(crate) type ExtraLines = Box<dyn Fn() -> String + Send + Sync>;

/// A progress bar at the bottom of the terminal.
pub(crate) struct RunBar {
    line: ProgressBar,
    extra_lines: Option<ExtraLines>,
    status: Arc<RunStatus>,
    drawn: Mutex<Instant>,
}

impl RunBar {
    /// Returns a bar over `expected` records, or a counter if the number is unknown. The lines of `more` follow below it.
    #[must_use]
    pub(crate) fn new(screen: &Screen, status: Arc<RunStatus>, expected: Option<u64>, more: Option<ExtraLines>) -> Self {
        let style = |template: &str| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let (rated, left) = (Arc::clone(&status), Arc::clone(&status));
            style
                .with_key("rate", move |_: &ProgressState, out: &mut dyn Write| {
                    let rate = rated.lock().rate.per_second(Instant::now());
                    let _ = rate.map_or(Ok(()), |rate| write!(out, ", {} records/s", rounded(rate)));
                })
                .with_key("time", |state: &ProgressState, out: &mut dyn Write| {
                    let _ = out.write_str(&in_seconds(state.elapsed()));
                })
                .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
                    let rate = left.lock().rate.per_second(Instant::now());
                    let left = rate.zip(state.len()).map(|(rate, all)| time_left(all.saturating_sub(state.pos()), rate));
                    let _ = left.map_or(Ok(()), |left| write!(out, ", eta {}", in_seconds(left)));
                })
        };
        let bar = match expected {
            Some(expected) => ProgressBar::new(expected).with_style(
                style("{spinner} {wide_bar} {percent:>3}% {human_pos}/{human_len}{rate}{left}\n  {msg}").progress_chars("=> "),
            ),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {human_pos} records{rate}, for {time}\n  {msg}")),
        };
        let bar = screen.bars().add(bar);
        let this = Self { line: bar, extra_lines: more, status, drawn: Mutex::new(Instant::now()) };
        this.refresh();
        this.line.enable_steady_tick(Duration::from_millis(250));
        this
    }

    /// Shows the run as it is now; to be called periodically too: a run that moves nothing has no events.
    pub(crate) fn refresh(&self) {
        let entries = self.status.lock().clone();
        self.line.set_position(entries.tally.read - entries.tally.unsettled());
        let text = message(&entries);
        let text = self.extra_lines.as_ref().map_or(text.clone(), |more| format!("{text}\n{}", more()));
        let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col));
        self.line.set_message(text.lines().map(|line| cut(line, width.saturating_sub(MARGIN))).collect::<Vec<_>>().join("\n"));
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.line.finish_and_clear();
    }
}

/// The columns that a line leaves free: its indent, and room for the `^C` that a terminal echoes behind it. A line that wraps would
/// stay when the bar is drawn again.
const MARGIN: usize = 5;

/// Returns as much of a line as fits into so many columns.
fn cut(line: &str, width: usize) -> Cow<'_, str> {
    if line.width() <= width {
        return Cow::Borrowed(line);
    }
    let mut shown = String::new();
    for c in line.chars() {
        if shown.width() + c.width().unwrap_or(0) >= width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    Cow::Owned(shown)
}

/// Returns a rate for people.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(rate: f64) -> String {
    if rate < 9.95 { format!("{rate:.1}").trim_end_matches(".0").to_owned() } else { grouped(rate.round() as u64) }
}

#[allow(clippy::cast_precision_loss)] // a time for people
fn time_left(records: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(records as f64 / rate).unwrap_or(Duration::MAX)
}

/// Returns a duration for people, in whole seconds: the bar is redrawn several times in each.
#[allow(clippy::cast_precision_loss)] // exact for millions of years
fn in_seconds(duration: Duration) -> String {
    human_duration(duration.as_secs() as f64)
}

fn message(entries: &StatusFields) -> String {
    let tally = &entries.tally;
    let is_made = entries.info.as_ref().is_some_and(|info| !info.has_positions);
    let mut text = format!("{} {}", if is_made { "sent" } else { "delivered" }, grouped(tally.delivered));
    for (name, count) in
        [("dead", tally.dead_lettered), ("skipped", tally.skipped), ("filtered", tally.filtered), ("late", tally.late)]
    {
        if count > 0 {
            let _ = write!(text, " · {name} {}", grouped(count));
        }
    }
    if let Some(lag) = entries.lag() {
        let _ = write!(text, " · lag {}", grouped(lag));
    }
    let waiting = match &entries.draining {
        Some(why) => Some(format!("{why}: draining records in flight")),
        None => entries.standstill(Instant::now()).map(|standstill| escape_controls(&standstill.text()).into_owned()),
    };
    let states = [("stalled", true), ("degraded", false)].into_iter().filter_map(|(state, is_stalled)| {
        let sides = entries.problems.iter().filter(|(_, problem)| problem.is_stalled == is_stalled);
        let sides: Vec<_> = sides.map(|(side, _)| side.activity()).collect();
        (!sides.is_empty()).then(|| format!("{} {state}", sides.join(", ")))
    });
    waiting.into_iter().chain(states).chain([text]).chain(reasons(entries)).collect::<Vec<_>>().join(" · ")
}

/// Returns the reasons of problems, each with its side if several have one: behind everything else, because a line is cut.
fn reasons(entries: &StatusFields) -> Vec<String> {
    let is_one = entries.problems.len() == 1;
    let reason = |(side, problem): (&RunSide, &SideProblem)| {
        let reason = escape_controls(&problem.reason);
        if is_one { reason.to_string() } else { format!("{}: {reason}", side.activity()) }
    };
    entries.problems.iter().map(reason).collect()
}

impl Observer for RunBar {
    fn on(&self, event: &Event<'_>) {
        let changed = matches!(event, Event::Problem { .. } | Event::Unassigned(_) | Event::Draining(_));
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed && drawn.elapsed() < REDRAW_INTERVAL {
            return;
        }
        *drawn = Instant::now();
        drop(drawn);
        self.refresh();
    }
}

/// Logs a status line every `every` records, and at least every 10 s.
#[derive(Debug)]
pub(crate) struct StatusLines {
    status: Arc<RunStatus>,
    every: u64,
    /// Whether records are read rather than produced.
    reads: bool,
    last: Mutex<(u64, Instant, u64)>,
}

impl StatusLines {
    #[must_use]
    pub(crate) fn new(journal: Arc<RunStatus>, every: u64, reads: bool) -> Self {
        Self { status: journal, every: every.max(1), reads, last: Mutex::new((0, Instant::now(), 0)) }
    }

    /// Writes the line if it is due; to be called periodically.
    pub(crate) fn tick(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = self.status.lock().clone();
        let step = entries.tally.read / self.every;
        if step == last.0 && last.1.elapsed() < STATUS_INTERVAL {
            return;
        }
        let tally = &entries.tally;
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate for people
        let rate = ((tally.delivered - last.2) as f64 / last.1.elapsed().as_secs_f64().max(0.001)) as u64;
        *last = (step, Instant::now(), tally.delivered);
        tracing::info!(
            read = self.reads.then_some(tally.read),
            produced = (!self.reads).then_some(tally.read),
            delivered = tally.delivered,
            dead_lettered = tally.dead_lettered,
            skipped = tally.skipped,
            filtered = tally.filtered,
            lag = entries.lag(),
            records_per_second = rate,
            reading_stalled = entries.stalled(RunSide::Source),
            delivery_stalled = entries.stalled(RunSide::Target),
            dead_letters_stalled = entries.stalled(RunSide::DeadLetters),
            commits_stalled = entries.stalled(RunSide::Commits),
            waiting_for_partitions = entries.is_unassigned.then_some(true),
            "Status."
        );
    }
}

impl Observer for StatusLines {
    fn on(&self, event: &Event<'_>) {
        if matches!(event, Event::Progress(_) | Event::LogEndOffsets(_)) {
            self.tick();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Assignment, UnassignedReason};
    use crate::record::{NextOffset, Partition};

    #[test]
    fn the_bar_shows_that_the_run_waits_for_partitions_until_it_has_some() {
        let status = RunStatus::default();
        status.on(&Event::Unassigned(UnassignedReason::NoneLeft));
        status.on(&Event::Assigned(&[]));
        assert_eq!(message(&status.lock()), "waiting for partitions · delivered 0");
        let partition = Partition::new("bar", 0);
        status.on(&Event::Assigned(&[Assignment { partition, start: NextOffset(0), fingerprint: None, extension: None }]));
        assert_eq!(message(&status.lock()), "waiting for the first records · delivered 0");
        status.on(&Event::LogEndOffsets(&[(partition, Some(0))]));
        assert_eq!(message(&status.lock()), "waiting for new records · delivered 0 · lag 0");
        status.on(&Event::Draining("interrupted"));
        assert_eq!(message(&status.lock()), "interrupted: draining records in flight · delivered 0 · lag 0");
    }

    #[test]
    fn a_line_is_cut_to_its_columns() {
        assert_eq!(cut("delivered 5", 11), "delivered 5");
        assert_eq!(cut("delivered 5 · lag", 11), "delivered …");
        assert_eq!(cut("漢字漢字", 6), "漢字…");
    }

    #[test]
    fn a_rate_has_a_fraction_where_it_is_small() {
        assert_eq!([0.2, 1.0, 9.94, 12.6, 1_234_567.8].map(rounded), ["0.2", "1", "9.9", "13", "1,234,568"]);
        assert_eq!(time_left(1_000, 200.0), Duration::from_secs(5));
        assert_eq!(time_left(u64::MAX, 1e-12), Duration::MAX);
    }

    #[test]
    fn the_bar_shows_times_in_their_two_largest_units() {
        let times = [900, 89_400, 90_000, 3_600_000].map(|millis| in_seconds(Duration::from_millis(millis)));
        assert_eq!(times, ["0s", "1m 29s", "1m 30s", "1h"]);
    }

    #[test]
    fn the_bar_names_the_side_that_is_stalled() {
        let status = RunStatus::default();
        let stalled = |reason: &str| SideProblem { code: "code".to_owned(), reason: reason.to_owned(), is_stalled: true };
        let source = stalled("orders/0: no leader");
        status.on(&Event::Problem { side: RunSide::Source, problem: Some(&source) });
        assert_eq!(message(&status.lock()), "reading stalled · delivered 0 · orders/0: no leader");
        let target = stalled("no \u{1b}response");
        status.on(&Event::Problem { side: RunSide::Target, problem: Some(&target) });
        let both = message(&status.lock());
        let start = "reading, delivery stalled · delivered 0 · reading: orders/0: no leader · delivery: no ";
        assert!(both.starts_with(start), "what is cut is the end: {both}");
        assert!(!both.contains('\u{1b}'), "{both}");
        status.on(&Event::Problem { side: RunSide::Source, problem: None });
        let slow = SideProblem { code: "busy".to_owned(), reason: "too busy".to_owned(), is_stalled: false };
        status.on(&Event::Problem { side: RunSide::Target, problem: Some(&slow) });
        assert_eq!(message(&status.lock()), "delivery degraded · delivered 0 · too busy");
        status.on(&Event::Problem { side: RunSide::Commits, problem: Some(&source) });
        let mixed = "commits stalled · delivery degraded · delivered 0 · delivery: too busy · commits: orders/0: no leader";
        assert_eq!(message(&status.lock()), mixed);
        assert_eq!(status.lock().stalled(RunSide::Target), None, "some records are accepted");
    }
}
