//! The progress bar of a scan.

use indicatif::{ProgressBar, ProgressStyle};

use crate::number::grouped;
use crate::report::screen::Screen;

/// A progress bar over scanned records.
#[derive(Debug)]
pub(crate) struct ScanBar(ProgressBar);

impl ScanBar {
    /// Returns a bar over at most `all` records.
    #[must_use]
    pub(crate) fn new(screen: &Screen, all: u64) -> Self {
        let style = ProgressStyle::with_template("{spinner} {wide_bar} {human_pos}/{human_len} scanned{msg} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        Self(screen.bars().add(ProgressBar::new(all).with_style(style)))
    }

    /// Sets how many records were scanned, and how many of them were shown.
    pub(crate) fn update(&self, read: u64, shown: u64) {
        self.0.set_position(read);
        if shown > 0 {
            self.0.set_message(format!(", {} shown", grouped(shown)));
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
