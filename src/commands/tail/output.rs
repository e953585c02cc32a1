//! What every record passes on its way to standard output.

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
use crate::report::{ScanBar, Screen, grouped};
use crate::terminal::escape_controls;

/// How many records are looked at between two looks at the clock and the signals.
const CHECK_EVERY: u64 = 1024;
/// How long a look through records may take before its progress is shown.
const LONG: Duration = Duration::from_secs(1);

/// Filter, form and output, and what is told beside them.
pub(super) struct Output {
    pub(super) filter: Filter,
    printer: Printer,
    out: BufferedStdout,
    screen: Screen,
    quiet: bool,
    /// Whether standard output leaves the terminal free for a bar.
    shows_progress: bool,
    stop: watch::Receiver<bool>,
    /// Records looked at, shown, and left out because they cannot be shaped.
    read: u64,
    shown: u64,
    bad: u64,
    /// Why the first of them could not.
    why: Option<String>,
    /// How many may still be shown.
    left: u64,
    failed: Option<io::Error>,
    trouble: Option<String>,
    scan: Option<(Instant, u64, Option<ScanBar>)>,
}

impl Output {
    /// Returns the gate to standard output, which is a terminal or not.
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
            why: None,
            left: u64::MAX,
            failed: None,
            trouble: None,
            scan: None,
        })
    }

    /// Says how many offsets the coming look may go through.
    pub(super) fn expect(&mut self, offsets: i64) {
        self.scan = Some((Instant::now(), offsets.cast_unsigned(), None));
    }

    /// Says how many records may be shown from now on, and returns whether that is any at all.
    pub(super) fn limit(&mut self, count: Option<u64>) -> bool {
        self.left = count.unwrap_or(u64::MAX);
        self.left > 0
    }

    /// Returns how many records were looked at.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Returns how many records were shown.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }

    /// Returns how a record is shown, if it is.
    pub(super) fn sift(&mut self, record: &RecordView<'_>) -> Option<FilterResult> {
        self.filter.filter(record).unwrap_or_else(|why| {
            self.bad += 1;
            self.why.get_or_insert_with(|| format!("{}@{}: {why}", record.partition, record.offset));
            None
        })
    }

    /// Takes what happens while records are shown as they come.
    pub(super) fn take(&mut self, happening: &ScanEvent<'_>) -> ControlFlow<()> {
        let ScanEvent::Record(record) = happening else { return self.wait(happening) };
        if let Some(shown) = self.sift(record)
            && let Err(error) = self.show(&shown.of(record))
        {
            self.failed = Some(error);
        }
        if self.left == 0 || self.failed.is_some() {
            return ControlFlow::Break(());
        }
        self.looked()
    }

    /// Shows a record that is wanted.
    pub(super) fn show(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        self.printer.write(record, &mut self.out.buffer);
        self.shown += 1;
        self.left -= 1;
        self.out.flush_if_full()
    }

    /// Counts a record that was looked at; now and then shows progress, and returns whether to go on.
    pub(super) fn looked(&mut self) -> ControlFlow<()> {
        self.read += 1;
        if !self.read.is_multiple_of(CHECK_EVERY) {
            return ControlFlow::Continue(());
        }
        if let Some((since, all, bar)) = &mut self.scan
            && self.shows_progress
            && since.elapsed() > LONG
        {
            bar.get_or_insert_with(|| ScanBar::new(&self.screen, *all)).update(self.read, self.shown);
        }
        if self.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Returns whether nobody has asked to stop.
    pub(super) fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }

    /// Uses the time in which nothing comes.
    pub(super) fn wait(&mut self, happening: &ScanEvent<'_>) -> ControlFlow<()> {
        if let ScanEvent::Degraded(trouble) = happening {
            self.tell(trouble);
        }
        if let Err(error) = self.flush().and_then(|()| self.out.look_for_reader()) {
            self.failed = Some(error);
        }
        if self.failed.is_none() && self.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.printer.settle(&mut self.out.buffer);
        self.out.flush()
    }

    fn tell(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble.to_owned());
        }
    }

    /// Takes the progress away, once everything was looked at.
    pub(super) fn searched(&mut self) -> io::Result<()> {
        if let Some((_, _, Some(bar))) = self.scan.take() {
            bar.finish();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Says something to whoever looks at stderr.
    pub(super) fn say(&self, text: &str) {
        self.screen.write(&format!("{}\n", escape_controls(text)));
    }

    /// Says something to a person at a terminal.
    pub(super) fn remark(&self, text: &str) {
        if self.screen.is_terminal() && !self.quiet {
            self.say(text);
        }
    }

    /// Writes what is left, and says what was left out. What follows is ended by being interrupted, anything else is cut short.
    pub(super) fn finish(&mut self, follows: bool) -> Result<(), Error> {
        self.searched()?;
        self.flush()?;
        if let Some(why) = &self.why {
            self.say(&match self.bad {
                1 => format!("1 record was left out because its value cannot be shaped: {why}"),
                bad => {
                    format!("{} records were left out because their values cannot be shaped; the first is {why}", grouped(bad))
                }
            });
        }
        if !follows && !self.goes_on() {
            self.say(&format!("interrupted after {} records", grouped(self.read)));
        }
        Ok(())
    }
}
