//! Standard output, written in large chunks.

use std::fs::File;
use std::io::{self, Write as _, stdout};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How many bytes are collected before a write.
const CHUNK: usize = 128 * 1024;

pub(super) struct BufferedStdout {
    file: File,
    pub(super) buffer: Vec<u8>,
}

impl BufferedStdout {
    pub(super) fn new() -> io::Result<Self> {
        let file = File::from(stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, buffer: Vec::with_capacity(2 * CHUNK) })
    }

    pub(super) fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK { Ok(()) } else { self.flush() }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Fails when the reader has closed the pipe: without a write, a quiet topic would not reveal it.
    pub(super) fn check_reader(&self) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.file, PollFlags::empty())];
        poll(&mut watched, Some(&Timespec::default()))?;
        let gone = watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}
