//! SIGINT and SIGTERM.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::connectors::kafka::end_process;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::report::Screen;

/// Signals so close together are one: a terminal, a shell or `timeout` may signal both this process and its group.
const SAME_SIGNAL: Duration = Duration::from_millis(250);

/// What follows from the end of a run that commits.
const REPEATS: &str = " The next run reads again what was not committed.";

/// The first SIGINT or SIGTERM stops the run, or ends a command that is still starting; the second one ends the process at once
/// with 130. One at a question ends the question.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    requested: watch::Sender<bool>,
    has_started: Arc<AtomicBool>,
    commits: Arc<AtomicBool>,
    listens: Arc<AtomicBool>,
    /// Restores the terminal before a second signal ends the process.
    last_action: Arc<Mutex<SignalAction>>,
    /// Ends the question that is asked.
    question: Arc<Mutex<SignalAction>>,
}

/// What a signal does.
#[derive(Default)]
struct SignalAction(Option<Box<dyn Fn() + Send>>);

impl SignalAction {
    /// Does it; returns whether there is something to do.
    fn run(&self) -> bool {
        self.0.iter().for_each(|action| action());
        self.0.is_some()
    }
}

impl fmt::Debug for SignalAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignalAction").field(&self.0.is_some()).finish()
    }
}

fn locked(action: &Mutex<SignalAction>) -> MutexGuard<'_, SignalAction> {
    action.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that stop a command.
struct StopSignals {
    interrupts: Signal,
    terminations: Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupts: signal(SignalKind::interrupt())?, terminations: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal; returns the exit code of a process that it ends.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupts.recv() => 130,
            _ = self.terminations.recv() => 143,
        }
    }
}

impl StopSignal {
    /// Begins to listen. A signal that ends the start prints `unbegun`, the summary of a run that has not begun, to stdout: a program
    /// that reads it gets a document however the run ends.
    ///
    /// # Errors
    /// When no signal handler can be installed.
    pub(crate) fn listen(&self, unbegun: Option<String>, screen: Screen) -> Result<(), Error> {
        let signals = StopSignals::listen();
        let mut signals = signals.map_err(|error| Failure::new("cannot install a signal handler").because(error))?;
        self.listens.store(true, Ordering::SeqCst);
        let this = self.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                signals.next().await;
                if locked(&this.question).run() {
                    continue;
                }
                match counted(&mut first, Instant::now()) {
                    SignalCount::First => {}
                    SignalCount::Same => continue,
                    SignalCount::Again => {
                        locked(&this.last_action).run();
                        screen.clear();
                        let then = if this.commits.load(Ordering::SeqCst) { REPEATS } else { "" };
                        tracing::error!("Interrupted again: ended at once.{then}");
                        end_process(130);
                    }
                }
                this.requested.send_replace(true);
                if !this.has_started.load(Ordering::SeqCst) {
                    // Nothing was read. The start may be blocked in a call of a client.
                    tracing::info!("Interrupted during the start: nothing was read.");
                    let mut stdout = std::io::stdout().lock();
                    let _ = stdout.write_all(unbegun.as_deref().unwrap_or_default().as_bytes());
                    let _ = stdout.flush();
                    end_process(0);
                }
            }
        });
        Ok(())
    }

    /// Asks the command to stop, as the first signal does.
    pub(crate) fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Has a second signal run `restore` before it ends the process, which drops nothing.
    pub(crate) fn restore_by(&self, restore: impl Fn() + Send + 'static) {
        locked(&self.last_action).0 = Some(Box::new(restore));
    }

    /// Has signals end a question by `interrupt`, and not the process. In a command that a signal kills, it does so after the question.
    ///
    /// # Errors
    /// When no signal handler can be installed.
    pub(crate) fn begin_question(&self, interrupt: impl Fn() + Send + 'static) -> std::io::Result<()> {
        locked(&self.question).0 = Some(Box::new(interrupt));
        if self.listens.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let (mut signals, question) = (StopSignals::listen()?, Arc::clone(&self.question));
        tokio::spawn(async move {
            loop {
                let code = signals.next().await;
                if !locked(&question).run() {
                    end_process(code);
                }
            }
        });
        Ok(())
    }

    /// Ends the question: it is answered.
    pub(crate) fn end_question(&self) {
        locked(&self.question).0 = None;
    }

    /// Notes that the run commits what it has delivered.
    pub(crate) fn note_commits(&self) {
        self.commits.store(true, Ordering::SeqCst);
    }

    /// Ends the start: returns a channel that turns true at the first signal.
    pub(crate) fn receiver(&self) -> watch::Receiver<bool> {
        self.has_started.store(true, Ordering::SeqCst);
        self.requested.subscribe()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalCount {
    First,
    /// The one before, delivered twice.
    Same,
    Again,
}

/// Returns what a signal at `now` is; `first` is when the first one came.
fn counted(first: &mut Option<Instant>, now: Instant) -> SignalCount {
    match *first {
        None => {
            *first = Some(now);
            SignalCount::First
        }
        Some(first) if now - first < SAME_SIGNAL => SignalCount::Same,
        Some(_) => SignalCount::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_close_together_are_one() {
        let begun = Instant::now();
        let counts = |millis: &[u64]| {
            let mut first = None;
            millis.iter().map(|millis| counted(&mut first, begun + Duration::from_millis(*millis))).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[0, 0, 249, 250]), [SignalCount::First, SignalCount::Same, SignalCount::Same, SignalCount::Again]);
        assert_eq!(counts(&[7_000, 60_000]), [SignalCount::First, SignalCount::Again]);
    }
}
