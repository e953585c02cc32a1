//! Runs as a person at a terminal sees them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use regex::Regex;

use crate::harness::{Cluster, Mock, Sender, Terminal, numbered};
use crate::run::Folder;

/// A program that is killed when it is dropped.
struct Program(Child);

impl Program {
    /// Starts it with its stderr on the terminal.
    fn start(command: &mut Command, terminal: &Terminal) -> Self {
        let child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(terminal.side()).spawn().expect("it starts");
        // The command keeps its side of the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(child)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.expect("kill starts").success());
    }

    fn end(&mut self) -> Option<i32> {
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bar_says_why_nothing_moves_and_leaves_nothing_behind() {
    let (source, target) = (Mock::start(1), Mock::start(1));
    source.create_topic("numbers", 1);
    target.create_topic("numbers", 1);
    let folder = Folder::with_profile(&Cluster::profile(&source.cluster(), &target.cluster(), "group"));
    let mut terminal = Terminal::open();
    let mut program = Program::start(&mut folder.sdl("replicate numbers --metrics 0"), &terminal);
    terminal.wait_for("waiting for new records");
    Sender::new(&source.cluster(), &[]).send("numbers", &numbered(1, 0, 700, 1));
    terminal.wait_for("delivered 700");
    // What the terminal itself writes when Ctrl-C is pressed.
    terminal.type_in("\u{3}");
    program.signal("INT");
    assert_eq!(program.end(), Some(0));
    let screen = terminal.screen(100);
    let text = screen.join("\n");
    assert!(!text.contains("· lag") && !text.contains("records, for") && !text.contains("^C"), "half a bar is left:\n{text}");
    assert!(screen.iter().any(|line| line.starts_with("replicate ") && line.contains("interrupted")), "{text}");
    let served = screen.iter().find(|line| line.contains("Serving metrics")).expect("a log line");
    assert!(Regex::new(r"^\d\d:\d\d:\d\d +INFO ").unwrap().is_match(served), "the time of day: {served}");
}

#[test]
fn a_bar_has_no_eta_before_it_has_a_rate() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = {}\n", kafka.cluster().servers));
    let mut terminal = Terminal::open();
    let mut program = Program::start(&mut folder.sdl("produce-fake logins --rate 400 --duration 4s"), &terminal);
    terminal.wait_for(" records/s, eta ");
    assert_eq!(program.end(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
    let (before, _) = shown.split_once(" records/s").expect("a rate was shown");
    assert!(!before.contains("eta"), "{before}");
    assert!(shown.contains("sent 1,") && shown.contains("made "), "{shown}");
    assert!(shown.contains("1,600"), "400 a second for 4 s are 1,600: {shown}");
}

#[test]
fn a_second_interrupt_takes_the_bar_away() {
    let (source, target) = (Mock::start(1), Mock::start(1));
    source.create_topic("numbers", 1);
    target.create_topic("numbers", 1);
    let profile = Cluster::profile(&source.cluster(), &target.cluster(), "group");
    Sender::new(&source.cluster(), &[]).send("numbers", &numbered(1, 0, 200, 1));
    let folder = Folder::with_profile(&profile);
    let mut terminal = Terminal::open();
    let mut program = Program::start(&mut folder.sdl("replicate numbers"), &terminal);
    terminal.wait_for("delivered 200");
    // The records that follow cannot be delivered: the run drains.
    drop(target);
    Sender::new(&source.cluster(), &[]).send("numbers", &numbered(2, 0, 50, 1));
    terminal.wait_for("stalled");
    program.signal("INT");
    terminal.wait_for("draining records in flight");
    // Signals within 250 ms are one.
    std::thread::sleep(Duration::from_millis(300));
    program.signal("INT");
    assert_eq!(program.end(), Some(130));
    let text = terminal.screen(100).join("\n");
    assert!(text.contains("Interrupted again") && !text.contains("draining records in flight ·"), "{text}");
}

/// Returns whether the cursor is shown at the end.
fn shows_the_cursor(shown: &str) -> bool {
    shown.contains("\u{1b}[?25l") && shown.rfind("\u{1b}[?25h") > shown.rfind("\u{1b}[?25l")
}

#[test]
fn a_question_that_is_interrupted_is_not_a_success_and_leaves_the_terminal_as_it_was() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = format!("[local_kafka]\nservers = {}\nprotect = confirm\n", kafka.cluster().servers);
    let folder = Folder::with_profile(&profile);
    // The second command is one that a signal kills.
    for (command, question) in [
        ("produce-fake logins -n 5", "write to logins on `local_kafka`?"),
        ("doctor local_kafka --roundtrip", "delete the topic on `local_kafka`?"),
    ] {
        for by_key in [true, false] {
            let mut terminal = Terminal::open();
            let mut sdl = folder.sdl(command);
            let mut program = Program::start(sdl.stdin(terminal.side()), &terminal);
            terminal.wait_for(question);
            terminal.wait_for_no_echo();
            if by_key {
                terminal.type_in("\u{3}");
            } else {
                program.signal("INT");
            }
            assert_eq!(program.end(), Some(5), "{command}");
            terminal.assert_echo();
            drop(sdl);
            let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
            assert!(shown.contains("interrupted, and not confirmed: nothing was changed"), "{command}: {shown}");
            assert!(shown.contains("run it again and answer yes") && !shown.contains("Interrupted during the start"), "{shown}");
            assert!(shows_the_cursor(&shown), "{command}: {shown:?}");
        }
    }
    let confirmed = folder.run("tail logins --start beginning -o ndjson --stop end");
    assert_eq!((confirmed.code, confirmed.stdout.as_str()), (Some(0), ""), "nothing was sent");
}

#[test]
fn a_question_that_is_answered_is_a_question_no_more_for_a_signal() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = format!("[local_kafka]\nservers = {}\nprotect = confirm\n", kafka.cluster().servers);
    let folder = Folder::with_profile(&profile);
    let mut terminal = Terminal::open();
    let mut sdl = folder.sdl("produce-fake logins");
    let mut program = Program::start(sdl.stdin(terminal.side()), &terminal);
    terminal.wait_for("write to logins on `local_kafka`?");
    terminal.wait_for_no_echo();
    terminal.type_in("y\r");
    terminal.wait_for("sent ");
    program.signal("INT");
    assert_eq!(program.end(), Some(0));
    drop(sdl);
    let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
    assert!(shown.contains("interrupted after") && shows_the_cursor(&shown), "{shown}");
}

#[test]
fn a_connection_that_takes_time_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = {}\n", silent.local_addr().unwrap()));
    let mut terminal = Terminal::open();
    let _program = Program::start(&mut folder.sdl("topics --source local_kafka"), &terminal);
    terminal.wait_for("Connecting to `local_kafka` ...");
}

#[test]
fn a_watch_fits_80_columns_and_q_ends_it() {
    let (source, target) = (Mock::start(1), Mock::start(1));
    source.create_topic("numbers", 3);
    target.create_topic("numbers", 3);
    Sender::new(&source.cluster(), &[]).send("numbers", &numbered(1, 0, 300, 3));
    let folder = Folder::with_profile(&Cluster::profile(&source.cluster(), &target.cluster(), "group"));
    assert_eq!(folder.run("replicate numbers --until-caught-up").code, Some(0));
    let mut terminal = Terminal::open();
    terminal.size(30, 80);
    let mut command = folder.sdl("lag group --source remote_kafka --watch --interval 200ms");
    let child = command.env("TERM", "xterm").stdin(terminal.side()).stdout(terminal.side()).stderr(terminal.side()).spawn();
    let mut program = Program(child.expect("it starts"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    terminal.wait_for("q ends");
    terminal.wait_for("numbers");
    terminal.wait_for_no_echo();
    terminal.type_in("q");
    assert_eq!(program.end(), Some(0));
    let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
    let (_, left) = shown.rsplit_once("\u{1b}[?1049l").expect("it went back to the shell's screen");
    let widest = left.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(left.contains("numbers") && widest <= Some(80), "{left}");
}

#[test]
fn a_table_is_as_wide_as_the_terminal_and_complete_in_a_pipe() {
    const COLUMNS: usize = 60;
    let terminal = Terminal::open();
    terminal.size(40, 60);
    // No server listens on this address.
    let folder = Folder::with_profile("[local_kafka]\nservers = 127.0.0.219:9\n");
    let mut command = folder.sdl("doctor");
    let status = command.stdout(terminal.side()).stderr(Stdio::null()).status().expect("it starts");
    // The command keeps its side of the terminal open.
    command.stdout(Stdio::null());
    assert_eq!(status.code(), Some(4));
    let shown = String::from_utf8_lossy(&terminal.all()).into_owned();
    assert!(shown.lines().all(|line| line.trim_end().chars().count() <= COLUMNS), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("or correct `servers` under [local_kafka]"), "the remedy is wrapped, not cut:\n{shown}");
    let piped = folder.run("doctor").stdout;
    assert!(piped.lines().any(|line| line.chars().count() > COLUMNS), "{piped}");
}
