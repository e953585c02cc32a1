//! Standard output, written in large pieces.

use std::fs::File;
use std::io::{self, Write as _, stdout};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How much is collected before it is written.
const PIECE: usize = 128 * 1024;

/// Returns how many columns the terminal has that standard output is, or as many as a page.
pub(super) fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0);
    size.map_or(100, |size| size.ws_col.into())
}

/// Standard output with a buffer of its own.
pub(super) struct BufferedStdout {
    file: File,
    pub(super) buffer: Vec<u8>,
}

impl BufferedStdout {
    pub(super) fn new() -> io::Result<Self> {
        let file = File::from(stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, buffer: Vec::with_capacity(2 * PIECE) })
    }

    /// Writes what was collected, once it is much.
    pub(super) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < PIECE { Ok(()) } else { self.flush() }
    }

    /// Writes what was collected.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Fails when nobody can read what would be written: who follows a quiet topic would not find out otherwise.
    pub(super) fn look_for_reader(&self) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.file, PollFlags::empty())];
        poll(&mut watched, Some(&Timespec::default()))?;
        let gone = watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}
