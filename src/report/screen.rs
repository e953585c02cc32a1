//! Stderr, shared by the progress bar and the text above it.

use std::io::{self, Write as _};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Stderr with room for a progress bar at the bottom. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    bars: Arc<MultiProgress>,
    terminal: bool,
}

impl Screen {
    /// Returns the screen; bars are drawn only on a terminal.
    #[must_use]
    pub(crate) fn new(terminal: bool) -> Self {
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { bars: Arc::new(MultiProgress::with_draw_target(target)), terminal }
    }

    #[must_use]
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    #[must_use]
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Takes every bar off the terminal for good: the process ends.
    pub(crate) fn clear(&self) {
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Writes text above the bar; errors are ignored.
    pub(crate) fn write(&self, text: &str) {
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
