//! Errors: their text and exit code.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::run::{Folder, ended};

/// Runs `sdl ARGUMENTS` beside the profile and expects this on stderr, nothing on stdout, and exit 2.
#[track_caller]
fn refused(profile: &str, arguments: &str, stderr: &str) {
    let ended = Folder::with_profile(profile).run(arguments);
    assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(2)));
}

const SHOW: &str = "profile show local_kafka";

#[test]
fn a_missing_profile_is_reported_with_the_searched_paths() {
    let ended = Folder::new().run("profile list");
    let expected = "\
error: no profile found, searched ./database.ini, /etc/sdl/database.ini
hint: create one with `sdl profile init`
";
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn a_named_profile_that_does_not_exist_is_refused() {
    let expected = "\
error: cannot read the profile `gone.ini`
  caused by: there is no such file
hint: create one with `sdl profile init`, or name another with --profile FILE
";
    refused("", "profile list --profile gone.ini", expected);
    let folder = Folder::new();
    let ended = ended(folder.sdl("profile list").env("SDL_PROFILE", "gone.ini"));
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn an_unreadable_profile_is_refused() {
    let folder = Folder::new();
    symlink("database.ini", folder.path().join("database.ini")).unwrap();
    let ended = folder.run("profile list");
    let (first, rest) = ended.stderr.split_once('\n').unwrap();
    assert_eq!((first, ended.code), ("error: cannot read the profile `./database.ini`", Some(2)));
    assert!(rest.ends_with("hint: see `ls -l ./database.ini`, or name another file with --profile FILE\n"), "{rest}");
}

#[test]
fn a_profile_that_is_a_directory_is_refused() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("database.ini")).unwrap();
    let expected = "\
error: cannot read the profile `./database.ini`
  caused by: it is a directory
hint: see `ls -l ./database.ini`, or name another file with --profile FILE
";
    let ended = folder.run("profile list");
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn a_profile_that_is_not_utf8_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("database.ini"), b"[a]\nservers = \xff\n").unwrap();
    let expected = "\
error: cannot read the profile `./database.ini`
  caused by: it is not UTF-8 text
hint: see `ls -l ./database.ini`, or name another file with --profile FILE
";
    let ended = folder.run("profile list");
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn malformed_lines_are_refused_with_their_number() {
    let (header, line) = ("write the name between `[` and `]`", "a comment starts with `#` at the beginning of its line");
    let section = "put the header of its section above it, as in [local_kafka]";
    for (profile, expected, hint) in [
        ("[local_kafka\nservers = a:1\n", "a section is written `[name]` at ./database.ini:1", header),
        ("[]\n", "a section is written `[name]` at ./database.ini:1", header),
        ("[local_kafka]\nservers\n", "a line is written `key = value` at ./database.ini:2", line),
        ("[local_kafka]\n= a:1\n", "a line is written `key = value` at ./database.ini:2", line),
        ("# first\nservers = a:1\n", "a key stands above the first `[section]` at ./database.ini:2", section),
    ] {
        let stderr = format!("error: cannot read the profile `./database.ini`\n  caused by: {expected}\nhint: {hint}\n");
        refused(profile, SHOW, &stderr);
    }
}

#[test]
fn a_section_given_twice_is_refused() {
    let expected = "\
error: cannot read section `local_kafka`
  caused by: the section is given twice: first in line 1, again at ./database.ini:4
hint: put all keys below one [local_kafka]
";
    refused("[local_kafka]\nservers = a:1\n\n[local_kafka]\n", SHOW, expected);
}

#[test]
fn a_key_given_twice_is_refused() {
    let expected = "\
error: cannot read section `local_kafka`
  caused by: key `servers` is given twice: first in line 2, again at ./database.ini:3
hint: remove one of the two
";
    refused("[local_kafka]\nservers = a:1\nservers = b:1\n", SHOW, expected);
}

#[test]
fn a_key_given_under_both_its_names_is_refused() {
    let expected = "\
error: cannot read section `mongodb`
  caused by: key `default_db_name` at ./database.ini:4 is another name for `default_database`, which is also given
hint: remove one of the two
";
    refused("[mongodb]\nhost = a\ndefault_database = x\ndefault_db_name = y\n", "profile show mongodb", expected);
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let expected = "\
error: cannot read section `local_kafka`
  caused by: unknown key `pasword` at ./database.ini:3
hint: did you mean `password`?
";
    refused("[local_kafka]\nservers = a:1\npasword = canary\n", SHOW, expected);
    let expected = "\
error: cannot read section `local_kafka`
  caused by: unknown key `zzz` at ./database.ini:3
hint: remove it; database.ini.example has every key
";
    refused("[local_kafka]\nservers = a:1\nzzz = canary\n", SHOW, expected);
}

#[test]
fn a_mistake_in_a_section_that_the_command_does_not_use_is_a_warning() {
    let mistakes = "[mongodb]\nhost = h\npasword = canary\n[other]\ntype = kafak\n[shape.s]\nwhere = ${env:GONE}\n";
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = a:1\n{mistakes}"));
    let unused = [
        "cannot read section `mongodb`: unknown key `pasword` at ./database.ini:5; a command that uses it fails",
        "cannot read section `other`: key `type` at ./database.ini:7 is not one of",
    ];
    for line in [SHOW, "profile list"] {
        let ended = ended(&mut folder.sdl(line));
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        assert!(unused.iter().all(|warning| ended.stderr.contains(warning)), "{line}: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    let refusal = "error: cannot read section `mongodb`\n  caused by: unknown key `pasword` at ./database.ini:5\n\
                   hint: did you mean `password`?\n";
    for line in ["profile show mongodb", "profile show", "sink-mongo t --source local_kafka --group g"] {
        let ended = ended(&mut folder.sdl(line));
        assert_eq!(ended.code, Some(2), "{line}: {}", ended.stderr);
        assert!(ended.stderr.ends_with(refusal), "{line}: {}", ended.stderr);
        assert!(!ended.stderr.contains(unused[0]), "{line}: {}", ended.stderr);
    }
}

#[test]
fn a_wrong_key_or_value_of_another_command_is_a_warning_with_its_line() {
    let profile = "[local_kafka]\nservers = a:1\n[run.replicate]\nbatchh = 3\n[shape.x]\nwher = a\n[mongodb]\nhost = h\nport = abc\n\
                   [postgres]\nurl = postgres://h\nusername = u\n[run.tail]\nquiet = false\n";
    let folder = Folder::with_profile(profile);
    let ended = ended(&mut folder.sdl("profile list"));
    let expected = [
        "cannot read section `mongodb`: key `port` at ./database.ini:9 is not a port between 1 and 65535; a command that uses it fails",
        "cannot read section `run.replicate`: unknown key `batchh` at ./database.ini:4; a command that uses it fails",
        "unknown key `wher` in [shape.x] at ./database.ini:6; a command that uses it fails",
    ];
    let warnings: Vec<_> = ended.stderr.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(warnings.len() == 3 && warnings.iter().zip(expected).all(|(line, end)| line.ends_with(end)), "{}", ended.stderr);
}

#[test]
fn a_fault_in_a_section_that_the_command_uses_is_said_once() {
    let sections =
        "[local_kafka]\nservers = a:1\nusername = u\n[opensearch]\nurl = http://h\nurll = x\n[mongodb]\nhost = h\nport = abc\n";
    let folder = Folder::with_profile(&format!("{sections}[shape.x]\nwher = a\n[run.sink-es]\nbatchh = 3\n"));
    for (line, fault) in [
        ("tail t", "missing key `password`"),
        ("tail t --shape x", "missing key `password`"),
        ("sink-mongo t --source local_kafka --group g", "missing key `password`"),
        ("sink-es t --source local_kafka --index i", "`batchh`"),
    ] {
        let ended = ended(&mut folder.sdl(line));
        assert_eq!(ended.code, Some(2), "{line}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches(fault).count(), 1, "{line}: {}", ended.stderr);
    }
    let folder = Folder::with_profile(&sections.replace("username = u\n", ""));
    let ended = ended(&mut folder.sdl("sink-es t --source local_kafka --index i"));
    assert_eq!((ended.code, ended.stderr.matches("`urll`").count()), (Some(2), 1), "{}", ended.stderr);
}

#[test]
fn an_unknown_key_in_a_variable_is_refused_with_a_suggestion() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let ended = ended(folder.sdl(SHOW).env("SDL_LOCAL_KAFKA_PASWORD", "canary"));
    let expected = "\
error: cannot read section `local_kafka`
  caused by: unknown key `pasword` in the variable `SDL_LOCAL_KAFKA_PASWORD`
hint: did you mean `password`?
";
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn a_property_that_the_engine_sets_is_refused() {
    let expected = "\
error: cannot read section `local_kafka`
  caused by: key `kafka.group.id` at ./database.ini:3 is managed by sdl: the delivery promise depends on it
hint: use --group, or the key `default_consumer_group_id`
";
    refused("[local_kafka]\nservers = a:1\nkafka.group.id = g\n", SHOW, expected);
}

#[test]
fn a_section_that_does_not_exist_is_refused_with_a_suggestion() {
    let expected = "\
error: cannot read section `local_kafk`
  caused by: ./database.ini has no section with this name
hint: did you mean `local_kafka`?
";
    refused("[local_kafka]\nservers = a:1\n", "profile show local_kafk", expected);
}

#[test]
fn an_unknown_section_type_is_refused() {
    let expected = "\
error: cannot read section `x`
  caused by: key `type` at ./database.ini:2 is not one of `kafka`, `mongodb`, `elasticsearch`, `opensearch`
hint: set `type` to one of `kafka`, `mongodb`, `elasticsearch`, `opensearch`
";
    refused("[x]\ntype = redis\n", "profile show x", expected);
}

#[test]
fn a_linger_time_that_librdkafka_refuses_is_a_usage_error() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n[run.replicate]\nlinger = 16m\n");
    let flag = folder.run("replicate t --linger 1h");
    assert_eq!((flag.stdout.as_str(), flag.code), ("", Some(2)));
    assert!(
        flag.stderr.contains("invalid value '1h' for '--linger <DURATION>': at most 15m: the Kafka producer"),
        "{}",
        flag.stderr
    );
    let key = folder.run("replicate t");
    assert_eq!((key.stdout.as_str(), key.code), ("", Some(2)));
    assert!(key.stderr.contains("key `linger` at ./database.ini:4: invalid value '16m'"), "{}", key.stderr);
}

#[test]
fn only_the_kafka_producer_limits_the_linger_time() {
    let folder = Folder::with_profile("[remote_kafka]\nservers = a:1\n");
    // Without a section of the destination the run ends after its flags were accepted.
    for command in ["sink-es t --index i --linger 1h --wait 1s", "sink-mongo t --linger 1h --wait 1s"] {
        let finished = folder.run(command);
        assert!(finished.code != Some(0) && !finished.stderr.contains("linger"), "{command}: {}", finished.stderr);
    }
}

#[test]
fn a_negative_duration_or_size_is_refused_with_what_is_expected() {
    let folder = Folder::with_profile("");
    for (flag, expected) in [
        (
            "--commit-interval -5s",
            "invalid value '-5s' for '--commit-interval <DURATION>': not a duration: use numbers with units",
        ),
        ("--batch-bytes -8MB", "invalid value '-8MB' for '--batch-bytes <SIZE>': not a size: use bytes, kB, MB"),
        ("--rate -5MB", "invalid value '-5MB' for '--rate <RATE>': not a rate: use records per second"),
    ] {
        let finished = folder.run(&format!("replicate t {flag}"));
        assert_eq!((finished.stdout.as_str(), finished.code), ("", Some(2)));
        assert!(finished.stderr.contains(expected), "{flag}: {}", finished.stderr);
    }
}

#[test]
fn a_mask_key_from_an_unset_variable_is_refused() {
    let expected = "\
error: cannot read section `shape.x`
  caused by: key `mask_key` at ./database.ini:2 needs the variable `MASK_KEY`, which is not set
hint: export MASK_KEY=...
";
    refused("[shape.x]\nmask_key = ${env:MASK_KEY}\n[local_kafka]\nservers = a:1\n", "tail t --shape x", expected);
}

#[test]
fn a_name_that_is_not_allowed_is_corrected_where_it_stands() {
    let profile = "[local_kafka]\nservers = a:1\n[elasticsearch]\nurl = http://a:1\ndefault_index = Logins\n\
                   [mongodb]\nhost = a\ndefault_database = a b\ndefault_collection = c\n";
    for (command, hint) in [
        ("sink-es t", "correct `default_index` under [elasticsearch]"),
        ("sink-es t --index Logins", "correct --index"),
        ("sink-mongo t", "correct `default_database` under [mongodb]"),
        ("sink-mongo t --database a/b", "correct --database"),
    ] {
        let ended = Folder::with_profile(profile).run(command);
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: cannot use `"), "{command}: {}", ended.stderr);
        assert!(ended.stderr.ends_with(&format!("hint: {hint}\n")), "{command}: {}", ended.stderr);
    }
}

#[test]
fn a_mask_key_is_needed_only_by_who_masks() {
    let profile = "[local_kafka]\nservers = 127.0.0.218:1\nmask_key = ${env:MASK_KEY}\n";
    let expected = "\
error: cannot read section `local_kafka`
  caused by: key `mask_key` at ./database.ini:3 needs the variable `MASK_KEY`, which is not set
hint: export MASK_KEY=...
";
    refused(profile, "tail t --mask user_id", expected);
    for command in ["lag g", "tail t --keep user_id", "topics"] {
        let ended = Folder::with_profile(profile).run(command);
        assert_eq!(ended.code, Some(1), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("error: cannot connect to `local_kafka`\n"), "{command}: {}", ended.stderr);
    }
    let doctor = Folder::with_profile(profile).run("doctor -o csv");
    let warning = "warn,key `mask_key` at ./database.ini:3 needs the variable `MASK_KEY`";
    assert!(doctor.stdout.contains(warning) || doctor.stdout.contains(&warning.replace("warn,", "warn,\"")), "{}", doctor.stdout);
}

#[test]
fn a_run_section_of_an_unknown_command_is_refused_with_a_suggestion() {
    let expected = "\
error: cannot read section `run.profil`
  caused by: there is no such command at ./database.ini:1
hint: did you mean [run.profile]?
";
    refused("[run.profil]\nquiet = true\n", SHOW, expected);
}

#[test]
fn an_unknown_command_is_refused_with_a_suggestion() {
    let ended = Folder::new().run("profil list");
    assert_eq!((ended.stdout.as_str(), ended.code), ("", Some(2)));
    assert!(ended.stderr.contains("a similar subcommand exists: 'profile'"), "{}", ended.stderr);
}

#[test]
fn a_missing_command_prints_the_usage() {
    let ended = Folder::new().run("");
    assert_eq!((ended.stdout.as_str(), ended.code), ("", Some(2)));
    assert!(ended.stderr.contains("Usage: sdl"), "{}", ended.stderr);
}

#[test]
fn profile_init_without_a_terminal_is_refused() {
    let expected = "\
error: `sdl profile init` asks questions, and there is no terminal
hint: run it in a terminal, or write new.ini with [local_kafka] and `servers = host:9092`
";
    let folder = Folder::new();
    let named = folder.run("profile init --profile new.ini");
    assert_eq!((named.stderr.as_str(), named.code), (expected, Some(2)));
    let ended = folder.run("profile init");
    assert_eq!((ended.stderr, ended.code), (expected.replace("new.ini", "./database.ini"), Some(2)));
    assert!(!folder.path().join("database.ini").exists());
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    for arguments in ["profile list", "profile show -o json", "completions bash", "--help"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = folder.sdl(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""), "{arguments}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("left out: there is no /dev/full on this machine");
        return;
    };
    let ended = ended_into(full);
    assert_eq!(ended.0, Some(1));
    assert!(ended.1.starts_with("error: cannot write to standard output\n  caused by: No space left on device"), "{}", ended.1);
}

fn ended_into(stdout: std::fs::File) -> (Option<i32>, String) {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let output = folder.sdl("profile list").stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn labels_have_colour_only_when_asked_for() {
    let folder = Folder::new();
    let label = "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m ";
    assert!(folder.run("--color always profile list").stderr.starts_with(label));
    assert!(folder.run("--color never profile list").stderr.starts_with("error: "));
    assert!(folder.run("profile list").stderr.starts_with("error: "), "no terminal, no colour");
}

#[test]
fn an_unknown_time_zone_is_an_error() {
    let expected = "\
error: unknown time zone `Mars/Phobos` in the variable `TZ`
hint: use a name from the tz database, as in TZ=Europe/Berlin, or unset it
";
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let unknown = ended(folder.sdl("tail x").env("TZ", "Mars/Phobos"));
    assert_eq!((unknown.stderr.as_str(), unknown.code), (expected, Some(2)));
    for zone in ["Europe/Berlin", "UTC", "", ":America/New_York", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        let known = ended(folder.sdl("profile list").env("TZ", zone));
        assert_eq!(known.code, Some(0), "{zone}: {}", known.stderr);
    }
}
