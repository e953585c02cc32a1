//! The completions in the tree are current, and shells complete the names of the profile.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{Folder, ended};

const FILES: [(&str, &str); 3] = [("bash", "sdl.bash"), ("zsh", "_sdl"), ("fish", "sdl.fish")];

const PROFILE: &str = "[remote_kafka]\nservers = a:9092\ndefault_consumer_topic = orders\ndefault_consumer_group_id = loader\n\n\
     [local_kafka]\nservers = b:9092\ndefault_consumer_topic = orders\ndefault_producer_topic = copies\n\n\
     [mongodb]\nuri = mongodb://me:canary@h:27017\n\n[shape.login]\ndefault.device_type = unknown\n";

#[test]
fn the_completion_files_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file) in FILES {
        let ended = Folder::new().run(&format!("completions {shell}"));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let kept = fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(kept == ended.stdout, "stale: run `cargo run -- completions {shell} > completions/{file}`");
    }
}

#[test]
fn completions_work_with_an_invalid_profile() {
    let folder = Folder::with_profile("broken");
    assert_eq!(folder.run("completions bash").code, Some(0));
    assert_eq!(candidates(&folder, "fish", "replicate --source "), [] as [&str; 0]);
    assert_eq!(candidates(&folder, "fish", "repl"), ["replicate"]);
}

/// Returns the candidates of the binary when `shell` completes the last of `words`, which are separated by single blanks.
fn candidates(folder: &Folder, shell: &str, words: &str) -> Vec<String> {
    let mut command = folder.sdl("");
    command.env("_SDL_COMPLETE", shell).args(["--", "sdl"]).args(words.split(' '));
    let ended = ended(&mut command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(!ended.stdout.contains("canary"), "{}", ended.stdout);
    // Behind a tab stands the explanation.
    let named = ended.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned());
    named.collect()
}

#[test]
fn a_completion_runs_no_command_and_contacts_no_server() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    let folder = Folder::new();
    let ran = folder.path().join("ran");
    let profile = format!(
        "[local_kafka]\nservers = {address}\ndefault_consumer_topic = orders\nsecurity_protocol = SASL_PLAINTEXT\n\
         sasl_mechanism = OAUTHBEARER\noauth_token_command = touch {}\n[elasticsearch]\nurl = http://{address}\n",
        ran.display()
    );
    folder.write("database.ini", &profile);
    for words in ["tail ", "tail --source ", "lag ", "topics ", "sink-es --target ", "offsets show "] {
        candidates(&folder, "fish", words);
    }
    assert_eq!(candidates(&folder, "fish", "tail "), ["orders"]);
    assert!(!ran.exists(), "the command ran");
    assert!(server.accept().is_err(), "the server was contacted");
}

#[test]
fn sections_of_the_profile_are_completed() {
    let folder = Folder::with_profile(PROFILE);
    folder.write("other.ini", "[staging]\nservers = c:9092\n[logs]\ntype = opensearch\nurl = http://d:9200\n");
    for (words, offered) in [
        ("replicate --source ", vec!["remote_kafka", "local_kafka"]),
        ("lag --source ", vec!["remote_kafka", "local_kafka"]),
        ("lag ", vec!["loader"]),
        ("tail --source loc", vec!["local_kafka"]),
        ("replicate --target l", vec!["local_kafka"]),
        ("produce-fake --target=", vec!["--target=remote_kafka", "--target=local_kafka"]),
        ("sink-mongo --target ", vec!["mongodb"]),
        ("sink-es --target ", vec![]),
        ("sink-es --profile other.ini --target ", vec!["logs"]),
        ("replicate --shape ", vec!["login"]),
        ("replicate --group ", vec!["loader"]),
        ("replicate ", vec!["copies", "orders"]),
        ("profile show ", vec!["remote_kafka", "local_kafka", "mongodb", "shape.login"]),
        ("replicate --profile other.ini --source ", vec!["staging"]),
        ("--profile=other.ini replicate --source ", vec!["staging"]),
        ("replicate --profile ot", vec!["other.ini"]),
        ("doctor ", vec!["remote_kafka", "local_kafka", "mongodb"]),
        ("help off", vec!["offsets"]),
        ("help repl", vec!["replicate"]),
        ("man repl", vec!["replicate"]),
        ("replicate --dry", vec!["--dry-run"]),
        ("lag loader ", vec!["loader"]),
        ("replicate --dead-letters topic:ord", vec!["topic:orders-dead-letters"]),
        ("sink-mongo --dead-letters topic:loc", vec!["topic:local_kafka/"]),
    ] {
        assert_eq!(candidates(&folder, "fish", words), offered, "sdl {words}");
    }
}

#[test]
fn an_unknown_shell_is_an_error() {
    let mut command = Folder::new().sdl("");
    let ended = ended(command.env("_SDL_COMPLETE", "csh").current_dir("/").args(["--", "sdl", ""]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("error: cannot complete the command line\n  caused by: "), "{}", ended.stderr);
}

/// Runs a script of `shell` in a folder with the binary and its completions; returns its output.
fn in_shell(shell: &str, script: &str) -> String {
    let folder = Folder::with_profile(PROFILE);
    for (shell, file) in FILES {
        folder.write(file, &folder.run(&format!("completions {shell}")).stdout);
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_sdl")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell);
    command.current_dir(folder.path()).env("PATH", path).env("HOME", folder.path()).env_remove("SDL_PROFILE");
    let ended = ended(command.args(["-c", script]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    ended.stdout
}

#[test]
#[ignore = "needs bash, zsh and fish"]
fn real_shells_bash_completes() {
    let script = r#"
        source ./sdl.bash
        complete -p sdl | grep -q -- '-F _clap_complete_sdl sdl' || exit 1
        COMP_WORDS=(sdl replicate --source r) COMP_CWORD=3 COMP_TYPE=9
        _clap_complete_sdl sdl r --source
        echo "${COMPREPLY[@]}"
        COMP_LINE='sdl replicate --dead-letters topic:ord' COMP_POINT=38
        COMP_WORDS=(sdl replicate --dead-letters topic : ord) COMP_CWORD=5
        _clap_complete_sdl sdl ord :
        echo "${COMPREPLY[@]}"
    "#;
    // Outside of a real completion, compopt fails without a word that matters.
    assert_eq!(in_shell("bash", script), "remote_kafka\norders-dead-letters\n");
}

#[test]
#[ignore = "needs bash, zsh and fish"]
fn real_shells_zsh_completes() {
    // The file is found by its name in a folder of $fpath, as it is installed; `_describe` is what zsh shows.
    let script = r#"
        fpath=($PWD $fpath)
        compdef() { : }
        _describe() { print -l -- "${(@P)@[-1]}" }
        autoload -U _sdl
        words=(sdl replicate --source r) CURRENT=4
        _sdl
        words=(sdl replicate --source '') CURRENT=4
        _clap_dynamic_completer_sdl
    "#;
    assert_eq!(in_shell("zsh", script), "remote_kafka:a:9092\nremote_kafka:a:9092\nlocal_kafka:b:9092\n");
}

#[test]
#[ignore = "needs bash, zsh and fish"]
fn real_shells_fish_completes() {
    let script = "source sdl.fish; complete -C 'sdl replicate --source '; complete -C 'sdl help gua'";
    assert_eq!(in_shell("fish", script), "remote_kafka\ta:9092\nlocal_kafka\tb:9092\nguarantees\n");
}
