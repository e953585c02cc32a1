//! Stderr, shared by the progress bar and everything that is written above it.

use std::io::{self, Write as _};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Stderr with room for a progress bar at the bottom. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Screen {
    bars: Arc<MultiProgress>,
    /// Whether a person is looking.
    terminal: bool,
}

impl Screen {
    /// Returns the screen; bars are drawn only where a person looks (`terminal`).
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { bars: Arc::new(MultiProgress::with_draw_target(target)), terminal }
    }

    /// Returns whether a person is looking.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns the place for bars.
    #[must_use]
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes text above the bar. That nobody reads it any more is no reason to stop.
    pub fn write(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// A writer for log lines.
impl io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
