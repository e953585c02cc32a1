//! A pseudo-terminal: what is typed on it, and what was shown.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal that is typed on and looked at.
pub(crate) struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    name: String,
    /// All that was shown until now.
    pub(crate) all: String,
    /// How much of it is behind what was waited for.
    since: usize,
}

impl Terminal {
    /// Opens one.
    pub(crate) fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails once nobody has the other side open any more.
            while let Ok(count) = screen.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keys, shown, name, all: String::new(), since: 0 }
    }

    /// Sets how many lines and columns it has.
    pub(crate) fn size(&self, lines: u16, columns: u16) {
        tcsetwinsize(&self.keys, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Returns the side that a program reads from and writes to.
    pub(crate) fn side(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.name).unwrap()
    }

    /// Waits until `text` is shown, behind what was waited for before.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) {
        let started = Instant::now();
        while !self.all[self.since..].contains(text) {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let Ok(bytes) = self.shown.recv_timeout(left) else { panic!("`{text}` was not shown: {}", self.all) };
            self.all.push_str(&String::from_utf8_lossy(&bytes));
        }
        self.since = self.all.len();
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Takes in what is still on its way, once the program has ended.
    pub(crate) fn rest(&mut self) {
        while let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(100)) {
            self.all.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}
