//! Prometheus's own judge of its files and pages.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Output of promtool.
pub(crate) struct Judged {
    /// Whether it found nothing wrong.
    pub(crate) well: bool,
    /// Both of its outputs.
    pub(crate) output: String,
}

/// Runs promtool with `input` as its standard input. `None` where it is not there, which with `CI=true` is a failure.
#[track_caller]
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Option<Judged> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut started = is_there("promtool", command.spawn())?;
    started.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it takes its input");
    let ended = started.wait_with_output().expect("promtool ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Judged { well: ended.status.success(), output: text(&ended.stdout) + &text(&ended.stderr) })
}

/// Returns the child process. A missing program skips the check, and fails it with `CI=true`.
#[track_caller]
pub(super) fn is_there<T>(program: &str, started: std::io::Result<T>) -> Option<T> {
    match started {
        Ok(started) => Some(started),
        Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
            eprintln!("left out: {program} is not there: {error}");
            None
        }
        Err(error) => panic!("{program} does not start: {error}"),
    }
}
