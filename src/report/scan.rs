//! Progress of a look through records.

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Screen, grouped};

/// A progress bar over records that are looked through.
#[derive(Debug)]
pub struct ScanBar(ProgressBar);

impl ScanBar {
    /// Returns a bar over at most `all` records.
    #[must_use]
    pub fn new(screen: &Screen, all: u64) -> Self {
        let style = ProgressStyle::with_template("{spinner} {wide_bar} {human_pos}/{human_len} looked at{msg} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        Self(screen.bars().add(ProgressBar::new(all).with_style(style)))
    }

    /// Shows how many were looked at, and how many of them were shown.
    pub fn at(&self, read: u64, shown: u64) {
        self.0.set_position(read);
        if shown > 0 {
            self.0.set_message(format!(", {} shown", grouped(shown)));
        }
    }

    /// Takes the bar off the terminal.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
