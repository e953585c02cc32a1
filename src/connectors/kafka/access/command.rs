//! `oauth_token_command` and `oauth_token_file`.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::connectors::access_error::AccessError;
use crate::connectors::kafka::access::jwt::is_token;

/// A longer output is no token.
const MAX_OUTPUT: u64 = 1 << 20;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the program without a shell and returns the token that it prints. Blocking, at most until the deadline; nothing of the output is
/// part of an error.
///
/// # Errors
/// When the program cannot be started, does not end in time or with success, or prints something else.
pub(super) fn run(command: &[String], deadline: Duration) -> Result<String, AccessError> {
    let (program, arguments) = command.split_first().ok_or_else(|| wrong("the token command is empty"))?;
    let until = Instant::now() + deadline;
    let mut spawned = Command::new(program);
    spawned.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = spawned.spawn().map_err(|error| {
        let why = crate::profile::reason(&error);
        AccessError::lasting(format!("cannot run the token command `{program}`: {why}"), "correct `oauth_token_command` under []")
    })?;
    let mut stdout = child.stdout.take().expect("it is piped");
    let (sender, output) = mpsc::channel();
    // Waits for every process that holds the pipe; the command may have left one.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stdout.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL_INTERVAL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let within = humantime::format_duration(deadline);
                return Err(AccessError::passing(format!("the token command `{program}` does not end within {within}"), BY_HAND));
            }
        }
    };
    if !status.success() {
        return Err(AccessError::passing(format!("the token command `{program}` fails: {status}"), BY_HAND));
    }
    let left = until.saturating_duration_since(Instant::now()).max(POLL_INTERVAL);
    let bytes = output.recv_timeout(left).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim();
    if is_token(token) {
        Ok(token.to_owned())
    } else {
        Err(wrong(&format!("the token command `{program}` does not print a token, which is one word")))
    }
}

const BY_HAND: &str = "run it by hand: its output is not shown here";

fn wrong(text: &str) -> AccessError {
    AccessError::lasting(text, BY_HAND)
}

/// Reads a token that another program renews.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub(super) fn read(path: &str) -> Result<String, AccessError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format!("cannot read the token file `{path}`: {}", crate::profile::reason(&error));
        AccessError::passing(text, format!("see `ls -l {path}`"))
    })?;
    let token = text.trim();
    if is_token(token) {
        Ok(token.to_owned())
    } else {
        let text = format!("the token file `{path}` does not hold a token, which is one word");
        Err(AccessError::passing(text, "see what writes it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> Result<String, AccessError> {
        run(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], deadline)
    }

    #[test]
    fn a_command_prints_a_token() {
        let long = Duration::from_secs(30);
        assert_eq!(shell("echo a.b.c", long).unwrap(), "a.b.c");
        let nothing = "the token command `sh` does not print a token, which is one word";
        assert_eq!(shell("echo canary canary", long).unwrap_err().text, nothing);
        let failed = shell("echo canary; echo canary >&2; exit 3", long).unwrap_err();
        assert_eq!((failed.text.as_str(), failed.is_lasting), ("the token command `sh` fails: exit status: 3", false));
        let missing = run(&["/no/such/program".to_owned(), "canary".to_owned()], long).unwrap_err();
        assert_eq!(missing.text, "cannot run the token command `/no/such/program`: there is no such file");
    }

    #[test]
    fn a_command_that_hangs_ends_at_its_deadline() {
        let started = Instant::now();
        let error = shell("sleep 600", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.text, "the token command `sh` does not end within 200ms");
        // A process that it leaves behind holds the pipe.
        assert!(shell("sleep 600 & exit 0", Duration::from_millis(200)).is_err());
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_file_holds_a_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        std::fs::write(&path, "a.b.c\n").unwrap();
        assert_eq!(read(&path).unwrap(), "a.b.c");
        std::fs::write(&path, "canary canary").unwrap();
        assert!(!read(&path).unwrap_err().text.contains("canary"));
        assert!(read("/no/such/file").unwrap_err().text.ends_with("there is no such file"));
    }
}
