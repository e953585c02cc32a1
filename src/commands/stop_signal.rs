//! SIGINT and SIGTERM.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::connectors::kafka::end_process;
use crate::error::Error;
use crate::pipeline::Failure;

/// The first SIGINT or SIGTERM stops the run, or ends a command that is still starting; the second one ends the process at once
/// with 130.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopSignal {
    requested: watch::Sender<bool>,
    has_started: Arc<AtomicBool>,
}

impl StopSignal {
    /// Begins to listen. A signal that ends the start prints `unbegun`, the summary of a run that has not begun, to stdout: a program
    /// that reads it gets a document however the run ends.
    ///
    /// # Errors
    /// When no signal handler can be installed.
    pub(crate) fn listen(&self, unbegun: Option<String>) -> Result<(), Error> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new("cannot install a signal handler").because(error));
        let (mut interrupts, mut terminations) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let this = self.clone();
        tokio::spawn(async move {
            for count in 0.. {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
                if count > 0 {
                    tracing::error!("Interrupted again: ended at once. The next run reads again what was not committed.");
                    end_process(130);
                }
                this.requested.send_replace(true);
                if !this.has_started.load(Ordering::SeqCst) {
                    // Nothing was read. The start may be blocked in a call of a client or in a question.
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

    /// Ends the start: returns a channel that turns true at the first signal.
    pub(crate) fn receiver(&self) -> watch::Receiver<bool> {
        self.has_started.store(true, Ordering::SeqCst);
        self.requested.subscribe()
    }
}
