//! A pseudo-terminal: typed keys, and the output on the screen.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::eventually;

const SCREEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A terminal of 40 lines and 100 columns.
pub(crate) struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    name: String,
    all: Vec<u8>,
    /// Length of the output up to the last match.
    since: usize,
}

impl Terminal {
    /// Opens one.
    pub(crate) fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal of our own");
        unlockpt(&master).expect("an unlocked terminal");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a readable name");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("a second handle");
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails once the other side is closed.
            while let Ok(count) = screen.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let terminal = Self { keys, shown, name, all: Vec::new(), since: 0 };
        terminal.size(40, 100);
        terminal
    }

    /// Sets how many lines and columns it has.
    pub(crate) fn size(&self, lines: u16, columns: u16) {
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keys, size).expect("a size");
    }

    /// Returns the side that a program reads from and writes to.
    pub(crate) fn side(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.name).expect("the terminal's other side")
    }

    /// Waits until the program reads keys without showing them: what is typed before is lost when it asks for a password.
    #[track_caller]
    pub(crate) fn wait_for_no_echo(&self) {
        let echoes = || tcgetattr(&self.keys).expect("the terminal's modes").local_modes.contains(LocalModes::ECHO);
        eventually("the program reads keys", SCREEN_TIMEOUT, || (!echoes()).then_some(()));
    }

    /// Checks that keys are shown: no program has left them hidden.
    #[track_caller]
    pub(crate) fn assert_echo(&self) {
        let modes = tcgetattr(&self.keys).expect("the terminal's modes").local_modes;
        assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON), "{modes:?}");
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until `text` is shown after the last match.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let started = Instant::now();
        while !String::from_utf8_lossy(&self.all[self.since..]).contains(text) {
            let left = SCREEN_TIMEOUT.saturating_sub(started.elapsed());
            let Ok(bytes) = self.shown.recv_timeout(left) else {
                panic!("`{text}` was not shown: {}", String::from_utf8_lossy(&self.all))
            };
            self.all.extend_from_slice(&bytes);
        }
        self.since = self.all.len();
    }

    /// Returns the lines that the screen, of this width, shows when programs have ended: what was drawn over or cleared is gone.
    pub(crate) fn screen(self, columns: usize) -> Vec<String> {
        drawn(&String::from_utf8_lossy(&self.all()), columns)
    }

    /// Returns the whole output of programs that have ended.
    pub(crate) fn all(mut self) -> Vec<u8> {
        // The reader ends when the other side is closed.
        while let Ok(bytes) = self.shown.recv_timeout(SCREEN_TIMEOUT) {
            self.all.extend_from_slice(&bytes);
        }
        self.all
    }
}

/// Draws text with the control sequences of progress bars: cursor up and down, clear line, clear below; colours are left out.
fn drawn(text: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0_usize, 0_usize);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let mut number = String::new();
                chars.next_if_eq(&'[');
                let end = loop {
                    match chars.next() {
                        Some(c) if c.is_ascii_alphabetic() => break c,
                        Some(c) => number.push(c),
                        None => break 'm',
                    }
                };
                let count = number.parse().unwrap_or(1);
                match end {
                    'A' => row = row.saturating_sub(count),
                    'B' => row += count,
                    'G' => column = count - 1,
                    'K' => lines[row].truncate(if number == "2" { 0 } else { column }),
                    'J' => lines.truncate(row + 1),
                    _ => {}
                }
            }
            c => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                while lines.len() <= row {
                    lines.push(Vec::new());
                }
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        while lines.len() <= row {
            lines.push(Vec::new());
        }
    }
    lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
}
