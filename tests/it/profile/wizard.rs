//! `profile init`, answered on a terminal.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::harness::{Mock, MongoStub, Terminal, all_well};
use crate::run::Folder;

const DOWN: &str = "\u{1b}[B";

/// Runs the command, types each answer when its question is shown, and returns the exit code and all that was shown.
fn answer(command: &mut Command, answers: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut terminal = Terminal::open();
    let mut child = command.stdin(terminal.side()).stderr(terminal.side()).spawn().unwrap();
    for (question, answer) in answers {
        terminal.wait_for(question);
        terminal.wait_for_no_echo();
        terminal.type_in(answer);
    }
    let status = child.wait().unwrap();
    // The command keeps its sides of the terminal open.
    command.stdin(Stdio::null()).stderr(Stdio::null());
    (status.code(), String::from_utf8_lossy(&terminal.all()).into_owned())
}

/// Answers for the section `mongodb` with a server on this port.
fn mongodb(port: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Which sections?", format!("{DOWN}{DOWN} \r")),
        ("Connect by", "\r".to_owned()),
        ("Host", "127.0.0.1\r".to_owned()),
        ("Port", format!("{port}\r")),
        ("Username", "\r".to_owned()),
        ("Use TLS?", "n\r".to_owned()),
        ("Database to write", "glamira\r".to_owned()),
        ("Collection to write", "\r".to_owned()),
        ("Consumer group", "\r".to_owned()),
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
    for section in ["remote_kafka (kafka, default source of replicate)", "local_kafka (kafka, default target of replicate and "] {
        assert!(shown.contains(section), "`{section}` is not in {shown}");
    }
    let path = folder.path().join("database.ini");
    let expected = format!(
        "# Written by `sdl profile init`. `sdl profile show` shows the effective values.\n\n\
         [mongodb]\nhost = 127.0.0.1\nport = {port}\ndefault_database = glamira\n\
         consumer_group_id = mongodb-loader\n"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.run("profile list").code, Some(0));
}

#[test]
fn a_failed_connection_is_reported_and_confirmed() {
    let closed = TcpListener::bind("127.0.0.214:0").unwrap().local_addr().unwrap().port().to_string();
    let mut answers = mongodb(&closed);
    answers[2].1 = "127.0.0.214\r".to_owned();
    answers.insert(6, ("Keep these answers anyway?", "y\r".to_owned()));
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("cannot connect to `mongodb`") && shown.contains("connecting: connection refused"), "{shown}");
    assert!(fs::read_to_string(folder.path().join("database.ini")).unwrap().contains("host = 127.0.0.214\n"));
}

#[test]
fn rejected_answers_are_offered_again_and_a_section_must_be_selected() {
    let closed = TcpListener::bind("127.0.0.214:0").unwrap().local_addr().unwrap().port().to_string();
    let mut answers = mongodb(&closed);
    answers[2].1 = "127.0.0.214\r".to_owned();
    answers[0].0 = "select at least one with space";
    answers.insert(0, ("Which sections?", "\r".to_owned()));
    let again = [("Connect by", "\r"), ("Host [127.0.0.214]", "\r"), ("Port", "\r"), ("Username", "\r"), ("Use TLS?", "n\r")];
    let again = again.map(|(question, answer)| (question, answer.to_owned()));
    answers.splice(7..7, [("Keep these answers anyway?", "n\r".to_owned())].into_iter().chain(again));
    answers.insert(13, ("Keep these answers anyway?", "y\r".to_owned()));
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    let answered =
        format!("host = 127.0.0.214\nport = {closed}\ndefault_database = glamira\nconsumer_group_id = mongodb-loader\n");
    assert!(written.ends_with(&answered), "{written}");
}

#[test]
fn the_name_of_a_topic_is_checked() {
    let answers = [
        ("Which sections?", " \r"),
        ("Servers", "127.0.0.214:9\r"),
        ("Security protocol", "\r"),
        ("Keep these answers anyway?", "y\r"),
        ("Topic to read", "http://a\r"),
        ("use up to 249 letters", "\u{15}\r"),
        ("Topic to write", "\r"),
        ("Consumer group", "\r"),
    ];
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers.map(|(question, answer)| (question, answer.to_owned())));
    assert_eq!(code, Some(0), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    assert!(!written.contains("topic"), "{written}");
}

#[test]
fn the_topics_of_the_cluster_are_offered_and_the_last_line_is_a_command_that_works() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    kafka.create_topic("orders", 1);
    let servers = format!("{}\r", kafka.cluster().servers);
    let choose_orders = format!("{DOWN}{DOWN}{DOWN}\r");
    let answers = [
        ("Which sections?", " \r"),
        ("Servers", servers.as_str()),
        ("Security protocol", "\r"),
        ("Topic to read", choose_orders.as_str()),
        ("Topic to write", "\r"),
        ("Consumer group", "\r"),
    ];
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers.map(|(question, answer)| (question, answer.to_owned())));
    assert_eq!(code, Some(0), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    assert!(written.contains("default_consumer_topic = orders\n") && !written.contains("producer_topic"), "{written}");
    let (_, command) = shown.rsplit_once("try it:").expect("it ends with a command");
    let command = command.trim().strip_prefix("sdl ").unwrap().to_owned();
    assert_eq!(command, "tail orders --source remote_kafka");
    assert_eq!(folder.run(&format!("{command} -n 1")).code, Some(0));
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let (code, shown) = init(&folder, &[("exists: replace it?", "n\r".to_owned())]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("./database.ini was not changed"), "{shown}");
    assert_eq!(fs::read_to_string(folder.path().join("database.ini")).unwrap(), "[local_kafka]\nservers = a:1\n");
}

#[test]
fn a_server_can_be_named_by_a_connection_string() {
    let server = MongoStub::start(all_well);
    let answers = [
        ("Which sections?", format!("{DOWN}{DOWN} \r")),
        ("Connect by", format!("{DOWN}\r")),
        ("Connection string", "127.0.0.1:1\r".to_owned()),
        ("use mongodb://host:27017", format!("{}\r", server.uri())),
        ("Database to write", "\r".to_owned()),
        ("Collection to write", "\r".to_owned()),
        ("Consumer group", "\r".to_owned()),
    ];
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("connected"), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    assert!(written.contains(&format!("[mongodb]\nuri = {}\nconsumer_group_id", server.uri())), "{written}");
}

#[test]
fn answers_that_no_command_would_read_are_asked_for_again() {
    let answers = [
        ("Which sections?", " \r"),
        ("Servers", "http://127.0.0.214:9\r"),
        ("without quotes and scheme", "\u{15}127.0.0.214:9\r"),
        ("Security protocol", "\r"),
        ("Keep these answers anyway?", "y\r"),
        ("Topic to read", "\r"),
        ("Topic to write", "\r"),
        ("Consumer group", "g # mine\r"),
        ("commas [127.0.0.214:9]", "\r"),
        ("Security protocol", "\r"),
        ("Keep these answers anyway?", "y\r"),
        ("Topic to read", "\r"),
        ("Topic to write", "\r"),
        ("Consumer group [g # mine]", "g\r"),
    ];
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers.map(|(question, answer)| (question, answer.to_owned())));
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("`# mine` is part of the value of key `default_consumer_group_id`"), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    assert!(written.contains("servers = 127.0.0.214:9\n") && written.contains("group_id = g\n"), "{written}");
}

#[test]
fn an_interrupted_question_writes_nothing_and_gives_the_cursor_back() {
    let password = [
        ("Which sections?", " \r"),
        ("Servers", "127.0.0.214:9\r"),
        ("Security protocol", "\u{1b}[B\r"),
        ("SASL mechanism", "\r"),
        ("Username", "u\r"),
    ];
    for answers in [vec![("Which sections?", "\u{3}")], [&password[..2], &[("Security protocol", "\u{3}")]].concat()] {
        let folder = Folder::new();
        let answers: Vec<_> = answers.into_iter().map(|(question, answer)| (question, answer.to_owned())).collect();
        let (code, shown) = init(&folder, &answers);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("interrupted, nothing was written"), "{shown}");
        assert!(shown.rfind("\u{1b}[?25h") > shown.rfind("\u{1b}[?25l"), "{shown:?}");
        assert!(!folder.path().join("database.ini").exists());
    }
    // A password is read by lines: the signal ends it, and the keys are shown again.
    let folder = Folder::new();
    let mut terminal = Terminal::open();
    let mut command = folder.sdl("profile init");
    let mut child = command.env("TERM", "xterm").stdin(terminal.side()).stderr(terminal.side()).spawn().unwrap();
    for (question, answer) in password {
        terminal.wait_for(question);
        terminal.wait_for_no_echo();
        terminal.type_in(answer);
    }
    terminal.wait_for("Password");
    terminal.wait_for_no_echo();
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    terminal.assert_echo();
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_first_question() {
    let folder = Folder::new();
    let (code, shown) = answer(folder.sdl("profile init --profile nodir/x.ini").env("TERM", "xterm"), &[]);
    assert_eq!(code, Some(1), "{shown}");
    let printed = ["cannot write `nodir/x.ini`", "there is no such file", "name a file in a writable folder"];
    assert!(printed.iter().all(|line| shown.contains(line)) && !shown.contains("Which sections?"), "{shown}");
}

#[test]
fn a_file_that_does_not_exist_is_asked_for_again_and_a_certificate_can_be_taken_back() {
    let folder = Folder::new();
    fs::write(folder.path().join("client.pem"), "certificate").unwrap();
    let ssl = format!("{DOWN}{DOWN}{DOWN}\r");
    let answers = [
        ("Which sections?", " \r"),
        ("Servers", "127.0.0.214:9\r"),
        ("Security protocol", ssl.as_str()),
        ("CA file", "nofile.pem\r"),
        ("there is no such file", "\u{15}\r"),
        ("Client certificate file", "client.pem\r"),
        ("Client key file", "\r"),
        ("name both files, or none", "\r"),
        ("Keep these answers anyway?", "y\r"),
        ("Topic to read", "\r"),
        ("Topic to write", "\r"),
        ("Consumer group", "\r"),
    ];
    let (code, shown) = init(&folder, &answers.map(|(question, answer)| (question, answer.to_owned())));
    assert_eq!(code, Some(0), "{shown}");
    let written = fs::read_to_string(folder.path().join("database.ini")).unwrap();
    assert!(written.contains("security_protocol = SSL\n") && !written.contains("location"), "{written}");
}

#[test]
fn a_url_without_tls_needs_no_ca() {
    let answers = [
        ("Which sections?", format!("{DOWN}{DOWN}{DOWN} \r")),
        ("URL", "http://127.0.0.214:9\r".to_owned()),
        ("Username", "\r".to_owned()),
        ("Keep these answers anyway?", "y\r".to_owned()),
        ("Index to write", "\r".to_owned()),
        ("Consumer group", "\r".to_owned()),
    ];
    let folder = Folder::new();
    let (code, shown) = init(&folder, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("CA file"), "{shown}");
}
