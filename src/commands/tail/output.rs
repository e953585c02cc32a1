//! The way of each record to standard output.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::commands::tail::filter::{Filter, FilterResult};
use crate::commands::tail::out::BufferedStdout;
use crate::commands::tail::print::Printer;
use crate::connectors::kafka::ScanEvent;
use crate::error::Error;
use crate::record::RecordView;
use crate::report::{ScanBar, Screen, counted};
use crate::terminal::escape_controls;

/// How many records are read between two checks of the clock and the signals.
const CHECK_EVERY: u64 = 1024;
/// How long a scan takes before its progress is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

/// Filter, format and stdout, with the messages on stderr.
pub(super) struct Output {
    pub(super) filter: Filter,
    printer: Printer,
    out: BufferedStdout,
    screen: Screen,
    quiet: bool,
    /// Whether the terminal is free for a progress bar: stdout is not a terminal.
    shows_progress: bool,
    stop: watch::Receiver<bool>,
    /// Records read, shown, and left out because their values cannot be shaped.
    read: u64,
    shown: u64,
    bad: u64,
    /// Why one of these cannot be shaped.
    bad_example: Option<String>,
    /// How many more may be shown.
    remaining: u64,
    failed: Option<io::Error>,
    trouble: Option<String>,
    scan: Option<(Instant, u64, Option<ScanBar>)>,
}

impl Output {
    pub(super) fn new(
        (filter, printer): (Filter, Printer),
        (screen, quiet): (Screen, bool),
        stop: watch::Receiver<bool>,
        terminal: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            filter,
            printer,
            out: BufferedStdout::new()?,
            screen,
            quiet,
            shows_progress: !terminal && !quiet,
            stop,
            read: 0,
            shown: 0,
            bad: 0,
            bad_example: None,
            remaining: u64::MAX,
            failed: None,
            trouble: None,
            scan: None,
        })
    }

    /// Starts a scan of as many offsets.
    pub(super) fn start_scan(&mut self, offsets: i64) {
        self.scan = Some((Instant::now(), offsets.cast_unsigned(), None));
    }

    /// Sets how many more records may be shown; returns whether that is more than none.
    pub(super) fn limit(&mut self, count: Option<u64>) -> bool {
        self.remaining = count.unwrap_or(u64::MAX);
        self.remaining > 0
    }

    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// Returns how a record is shown, if at all.
    ///
    /// # Errors
    /// When its value cannot be shaped, with its position.
    pub(super) fn filter(&self, record: &RecordView<'_>) -> Result<Option<FilterResult>, String> {
        self.filter.filter(record).map_err(|why| format!("{}@{}: {why}", record.partition, record.offset))
    }

    /// Counts records that are left out because their values cannot be shaped, with the reason of one of them.
    pub(super) fn on_bad(&mut self, count: u64, why: String) {
        self.bad += count;
        self.bad_example.get_or_insert(why);
    }

    /// Shows a record that arrived, if it matches.
    pub(super) fn on_event(&mut self, event: &ScanEvent<'_>) -> ControlFlow<()> {
        let ScanEvent::Record(record) = event else { return self.on_idle(event) };
        match self.filter(record) {
            Ok(Some(shown)) => self.failed = self.show(&shown.of(record)).err(),
            Ok(None) => {}
            Err(why) => self.on_bad(1, why),
        }
        if self.remaining == 0 || self.failed.is_some() {
            return ControlFlow::Break(());
        }
        self.on_read()
    }

    pub(super) fn show(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        self.printer.write(record, &mut self.out.buffer);
        self.shown += 1;
        self.remaining -= 1;
        self.out.flush_if_full()
    }

    /// Counts a record that was read; now and then updates the progress and checks for a stop request.
    pub(super) fn on_read(&mut self) -> ControlFlow<()> {
        self.read += 1;
        if !self.read.is_multiple_of(CHECK_EVERY) {
            return ControlFlow::Continue(());
        }
        if let Some((since, all, bar)) = &mut self.scan
            && self.shows_progress
            && since.elapsed() > PROGRESS_DELAY
        {
            bar.get_or_insert_with(|| ScanBar::new(&self.screen, *all)).update(self.read, self.shown);
        }
        if self.should_continue() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Returns whether no stop was requested.
    pub(super) fn should_continue(&self) -> bool {
        !*self.stop.borrow()
    }

    /// Flushes stdout while no record arrives.
    pub(super) fn on_idle(&mut self, event: &ScanEvent<'_>) -> ControlFlow<()> {
        if let ScanEvent::Degraded(trouble) = event {
            self.warn(trouble);
        }
        if let Err(error) = self.flush().and_then(|()| self.out.check_reader()) {
            self.failed = Some(error);
        }
        if self.failed.is_none() && self.should_continue() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.printer.flush(&mut self.out.buffer);
        self.out.flush()
    }

    fn warn(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            tracing::warn!("Waiting for records: {trouble}");
            self.trouble = Some(trouble.to_owned());
        }
    }

    /// Ends the scan: removes the progress bar, and returns a failed write.
    pub(super) fn end_scan(&mut self) -> io::Result<()> {
        if let Some((_, _, Some(bar))) = self.scan.take() {
            bar.finish();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Writes a line to stderr.
    pub(super) fn say(&self, text: &str) {
        self.screen.write(&format!("{}\n", escape_controls(text)));
    }

    /// Writes a line to stderr if it is a terminal.
    pub(super) fn remark(&self, text: &str) {
        if self.screen.is_terminal() && !self.quiet {
            self.say(text);
        }
    }

    /// Flushes stdout, and reports records that were left out and an interrupt. An interrupt is the normal end when following.
    pub(super) fn finish(&mut self, follows: bool) -> Result<(), Error> {
        self.end_scan()?;
        self.flush()?;
        if let Some(why) = &self.bad_example {
            self.say(&match self.bad {
                1 => format!("1 record was left out: {why}"),
                bad => format!("{} were left out, such as {why}", counted(bad, "record")),
            });
        }
        if !follows && !self.should_continue() {
            self.say(&format!("interrupted after {}", counted(self.read, "record")));
        }
        Ok(())
    }
}
