//! What every record passes on its way to standard output.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::commands::tail::filter::{Filter, Sifted};
use crate::commands::tail::out::Out;
use crate::commands::tail::print::Printer;
use crate::connectors::kafka::Happening;
use crate::error::Error;
use crate::record::RecordRef;
use crate::report::{ScanBar, Screen, grouped};

/// How many records are looked at between two looks at the clock and the signals.
const GLANCE: u64 = 1024;
/// How long a look through records may take before its progress is shown.
const LONG: Duration = Duration::from_secs(1);

/// Filter, form and output, and what is told beside them.
pub(super) struct Gate {
    pub(super) filter: Filter,
    printer: Printer,
    out: Out,
    screen: Screen,
    quiet: bool,
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

impl Gate {
    pub(super) fn new(
        filter: Filter,
        printer: Printer,
        screen: Screen,
        quiet: bool,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        Ok(Self {
            filter,
            printer,
            out: Out::new()?,
            screen,
            quiet,
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

    /// Says how many records may be shown from now on.
    pub(super) fn limit(&mut self, count: Option<u64>) {
        self.left = count.unwrap_or(u64::MAX);
    }

    /// Counts a record that is looked at.
    pub(super) fn count(&mut self) {
        self.read += 1;
    }

    /// Calls `keep` with the record as it is to be shown, if it is.
    pub(super) fn sift(&mut self, record: &RecordRef<'_>, keep: &mut dyn FnMut(&RecordRef<'_>)) {
        match self.filter.sift(record) {
            Sifted::AsIs => keep(record),
            Sifted::With(value) => keep(&RecordRef { value: Some(&value), ..*record }),
            Sifted::Unwanted => {}
            Sifted::Bad(why) => {
                self.bad += 1;
                self.why.get_or_insert(why);
            }
        }
    }

    /// Shows a record if it is wanted.
    pub(super) fn pass(&mut self, record: &RecordRef<'_>) -> ControlFlow<()> {
        self.read += 1;
        let (printer, out) = (&mut self.printer, &mut self.out.buffer);
        match self.filter.sift(record) {
            Sifted::AsIs => printer.write(record, out),
            Sifted::With(value) => printer.write(&RecordRef { value: Some(&value), ..*record }, out),
            Sifted::Unwanted => return self.go_on(),
            Sifted::Bad(why) => {
                self.bad += 1;
                self.why.get_or_insert(why);
                return self.go_on();
            }
        }
        self.shown += 1;
        self.left -= 1;
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        if let Err(error) = self.out.flush_if_full() {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        self.go_on()
    }

    /// Shows a record that was sifted before.
    pub(super) fn show(&mut self, record: &RecordRef<'_>) -> Result<(), Error> {
        self.printer.write(record, &mut self.out.buffer);
        self.shown += 1;
        Ok(self.out.flush_if_full()?)
    }

    /// Looks at clock and signals now and then.
    pub(super) fn go_on(&mut self) -> ControlFlow<()> {
        if !self.read.is_multiple_of(GLANCE) {
            return ControlFlow::Continue(());
        }
        if let Some((since, all, bar)) = &mut self.scan
            && !self.quiet
            && since.elapsed() > LONG
        {
            bar.get_or_insert_with(|| ScanBar::new(&self.screen, *all)).at(self.read, self.shown);
        }
        self.stopped()
    }

    fn stopped(&self) -> ControlFlow<()> {
        if *self.stop.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Uses the time in which nothing comes.
    pub(super) fn wait(&mut self, happening: &Happening<'_>) -> ControlFlow<()> {
        if let Happening::Trouble(trouble) = happening {
            self.tell(trouble);
        }
        if let Err(error) = self.out.flush().and_then(|()| self.out.look_for_reader()) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        self.stopped()
    }

    fn tell(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble.to_owned());
        }
    }

    /// Takes the progress away.
    pub(super) fn searched(&mut self) {
        if let Some((_, _, Some(bar))) = self.scan.take() {
            bar.finish();
        }
    }

    /// Returns how reading ended that was broken off.
    pub(super) fn ended(&mut self) -> Result<ControlFlow<()>, io::Error> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.stopped()),
        }
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.searched();
        let _ = self.ended()?;
        Ok(self.out.flush()?)
    }

    /// Says why nothing was shown, and what was left out.
    pub(super) fn explain(&self, nothing: Option<String>) {
        if self.shown == 0 {
            let text = match nothing {
                Some(nothing) => format!("{nothing}\n"),
                None if self.filter.selects() => format!("0 of {} records matched\n", grouped(self.read)),
                None => String::new(),
            };
            self.screen.write(&text);
        }
        if let Some(why) = &self.why {
            self.screen
                .write(&format!("{} records could not be shaped and were left out; the first: {why}\n", grouped(self.bad)));
        }
    }
}
