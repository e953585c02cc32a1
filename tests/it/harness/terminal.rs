//! A terminal to run things on, and to type on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of 100 columns.
pub(crate) struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    name: String,
    all: Vec<u8>,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal of our own");
        unlockpt(&master).expect("an unlocked terminal");
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a readable name");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("a second handle");
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
        Self { keys, shown, name, all: Vec::new() }
    }

    /// Returns the side that a program is given.
    pub(crate) fn side(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.name).expect("the terminal's other side")
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until `text` has been shown behind the first `since` bytes, and returns how many have been shown by then.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str, since: usize) -> usize {
        let started = Instant::now();
        while !String::from_utf8_lossy(&self.all[since..]).contains(text) {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let Ok(bytes) = self.shown.recv_timeout(left) else {
                panic!("`{text}` was not shown: {}", String::from_utf8_lossy(&self.all))
            };
            self.all.extend_from_slice(&bytes);
        }
        self.all.len()
    }

    /// Returns all that has been shown, once nothing more comes.
    pub(crate) fn all(mut self) -> Vec<u8> {
        while let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(100)) {
            self.all.extend_from_slice(&bytes);
        }
        self.all
    }
}
