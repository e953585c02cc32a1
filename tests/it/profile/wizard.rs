//! `profile init`, answered on a terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::Folder;

const DOWN: &str = "\u{1b}[B";
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal that is typed on.
struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    name: String,
}

impl Terminal {
    fn open() -> Self {
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
        Self { keys, shown, name }
    }

    /// Runs the command, types each answer when its question is shown, and returns the exit code and all that was shown.
    fn answer(mut self, command: &mut Command, answers: &[(&str, &str)]) -> (Option<i32>, String) {
        let side = || OpenOptions::new().read(true).write(true).open(&self.name).unwrap();
        let mut child = command.stdin(side()).stderr(side()).spawn().unwrap();
        let (started, mut all, mut since) = (Instant::now(), String::new(), 0);
        for (question, answer) in answers {
            while !all[since..].contains(question) {
                let left = PATIENCE.saturating_sub(started.elapsed());
                let bytes = self.shown.recv_timeout(left).unwrap_or_else(|_| panic!("`{question}` was not asked: {all}"));
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
            since = all.len();
            self.keys.write_all(answer.as_bytes()).unwrap();
        }
        let status = child.wait().unwrap();
        while let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(100)) {
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        (status.code(), all)
    }
}

/// Answers for the section `mongodb` with a server on this port.
fn mongodb(port: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Which sections?", format!("{DOWN}{DOWN} \r")),
        ("Host", "127.0.0.1\r".to_owned()),
        ("Port", format!("{port}\r")),
        ("Username", "\r".to_owned()),
        ("Use TLS?", "n".to_owned()),
        ("Database to write", "glamira\r".to_owned()),
        ("Collection to write", "\r".to_owned()),
    ]
}

fn init(folder: &Folder, answers: &[(&'static str, String)]) -> (Option<i32>, String) {
    let answers: Vec<_> = answers.iter().map(|(question, answer)| (*question, answer.as_str())).collect();
    Terminal::open().answer(folder.sdl("profile init").env("TERM", "xterm"), &answers)
}

#[test]
fn the_answers_are_tested_and_written_for_the_owner_alone() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let folder = Folder::new();
    let (code, shown) = init(&folder, &mongodb(&port));
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&format!("127.0.0.1:{port} answers")), "{shown}");
    let path = folder.path().join("database.ini");
    let expected = format!(
        "# Written by `sdl profile init`. `sdl profile show` tells what is in force.\n\n\
         [mongodb]\nhost = 127.0.0.1\nport = {port}\ndefault_database = glamira\n"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.run("profile list").code, Some(0));
}

#[test]
fn a_connection_that_fails_is_told_and_asked_about() {
    let closed = TcpListener::bind("127.0.0.214:0").unwrap().local_addr().unwrap().port().to_string();
    let mut answers = mongodb(&closed);
    answers[1].1 = "127.0.0.214\r".to_owned();
    answers.push(("Keep these answers all the same?", "y".to_owned()));
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("cannot connect to `mongodb`") && shown.contains("Connection refused"), "{shown}");
    assert!(fs::read_to_string(folder.path().join("database.ini")).unwrap().contains("host = 127.0.0.214\n"));
}

#[test]
fn a_file_that_is_there_is_not_replaced_unasked() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let (code, shown) = init(&folder, &[("exists: replace it?", "n".to_owned())]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("./database.ini was left as it is"), "{shown}");
    assert_eq!(fs::read_to_string(folder.path().join("database.ini")).unwrap(), "[local_kafka]\nservers = a:1\n");
}
