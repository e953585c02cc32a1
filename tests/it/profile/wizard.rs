//! `profile init`, answered on a terminal.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::harness::{MongoStub, Terminal, all_well};
use crate::run::Folder;

const DOWN: &str = "\u{1b}[B";

/// Runs the command, types each answer when its question is shown, and returns the exit code and all that was shown.
fn answer(command: &mut Command, answers: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut terminal = Terminal::open();
    let mut child = command.stdin(terminal.side()).stderr(terminal.side()).spawn().unwrap();
    for (question, answer) in answers {
        terminal.wait_for(question);
        terminal.type_in(answer);
    }
    let status = child.wait().unwrap();
    (status.code(), String::from_utf8_lossy(&terminal.all()).into_owned())
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
    answer(folder.sdl("profile init").env("TERM", "xterm"), &answers)
}

#[test]
fn the_answers_are_tested_and_written_readable_by_the_owner_only() {
    let server = MongoStub::start(all_well);
    let port = server.uri().rsplit_once(':').unwrap().1.to_owned();
    let folder = Folder::new();
    let (code, shown) = init(&folder, &mongodb(&port));
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("connected"), "{shown}");
    let path = folder.path().join("database.ini");
    let expected = format!(
        "# Written by `sdl profile init`. `sdl profile show` shows the effective values.\n\n\
         [mongodb]\nhost = 127.0.0.1\nport = {port}\ndefault_database = glamira\n"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.run("profile list").code, Some(0));
}

#[test]
fn a_failed_connection_is_reported_and_confirmed() {
    let closed = TcpListener::bind("127.0.0.214:0").unwrap().local_addr().unwrap().port().to_string();
    let mut answers = mongodb(&closed);
    answers[1].1 = "127.0.0.214\r".to_owned();
    answers.push(("Keep these answers anyway?", "y".to_owned()));
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("cannot connect to `mongodb`") && shown.contains("connecting: connection refused"), "{shown}");
    assert!(fs::read_to_string(folder.path().join("database.ini")).unwrap().contains("host = 127.0.0.214\n"));
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let (code, shown) = init(&folder, &[("exists: replace it?", "n".to_owned())]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("./database.ini was not changed"), "{shown}");
    assert_eq!(fs::read_to_string(folder.path().join("database.ini")).unwrap(), "[local_kafka]\nservers = a:1\n");
}
