//! The `sdl` binary as a user runs it: in a home of its own, with a deadline, its output kept.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Cluster, Dice};

/// A run of `sdl` that has not been started.
pub(crate) struct Sdl {
    command: Command,
    home: tempfile::TempDir,
    deadline: Duration,
}

impl Sdl {
    /// Returns `sdl` with `arguments`, split at blanks, in an empty folder and an empty environment.
    pub(crate) fn new(arguments: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdl"));
        command.args(arguments.split_whitespace()).env_clear().env("HOME", home.path()).current_dir(home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, home, deadline: Duration::from_secs(180) }
    }

    /// Adds one argument, blanks and all.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Writes the profile that the run finds by itself.
    pub(crate) fn profile(self, text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.home.path().join("database.ini");
        std::fs::write(&path, text).expect("the profile is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the profile is private");
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sends standard output there instead of keeping it.
    pub(crate) fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    /// Sets the deadline of the run; by default three minutes.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the folder that it runs in.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.start().wait()
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        let shown = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let mut child = self.command.spawn().expect("sdl starts");
        let stdout = child.stdout.take().map(CapturedStream::reading);
        let stderr = child.stderr.take().map(CapturedStream::reading);
        Running { shown, child, stdout, stderr, started: Instant::now(), deadline: self.deadline, home: self.home, ended: None }
    }
}

/// The output of a stream up to now.
struct CapturedStream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl CapturedStream {
    fn reading(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn now(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all(self) -> Vec<u8> {
        self.reader.join().expect("the reader ends with the stream");
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A started `sdl`. Dropping it kills it.
pub(crate) struct Running {
    shown: String,
    child: Child,
    stdout: Option<CapturedStream>,
    stderr: Option<CapturedStream>,
    started: Instant,
    deadline: Duration,
    home: tempfile::TempDir,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Returns standard error up to now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.as_ref().map(|kept| String::from_utf8_lossy(&kept.now()).into_owned()).unwrap_or_default()
    }

    /// Returns standard output up to now.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.as_ref().map(|kept| String::from_utf8_lossy(&kept.now()).into_owned()).unwrap_or_default()
    }

    /// Waits until standard error holds `text`.
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        self.wait_until_stderr(&format!("holds `{text}`"), |printed| printed.contains(text));
    }

    /// Waits until standard error is one for which `holds`.
    pub(crate) fn wait_until_stderr(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let has_ended = !self.is_running() && self.stderr.as_ref().is_none_or(|kept| kept.reader.is_finished());
            let printed = self.stderr();
            if holds(&printed) {
                return;
            }
            assert!(!has_ended, "{} ended before its stderr {what}:\n{printed}", self.shown);
            assert!(begun.elapsed() < self.deadline, "{}: stderr {what}: not within {:?}:\n{printed}", self.shown, self.deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a topic has at least this number of offsets.
    #[track_caller]
    pub(crate) fn wait_for_count(&mut self, cluster: &Cluster, topic: &str, wanted: u64) {
        let count = cluster.counter(topic);
        let begun = Instant::now();
        loop {
            let was_running = self.is_running();
            let there = count();
            if there >= wanted {
                return;
            }
            let waits = was_running && begun.elapsed() < Duration::from_secs(120);
            assert!(waits, "{}: `{topic}` holds {there} and not {wanted}; its stderr:\n{}", self.shown, self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        assert!(sent.expect("kill starts").success(), "{} is not there to take SIG{name}:\n{}", self.shown, self.stderr());
    }

    /// Kills it at a random moment within this time.
    pub(crate) fn kill_within(&self, longest: Duration, dice: &mut Dice) {
        let longest = u64::try_from(longest.as_millis()).expect("a short time");
        std::thread::sleep(Duration::from_millis(dice.below(longest)));
        self.signal("KILL");
    }

    /// Ends it with SIGTERM, upon which it must succeed.
    #[track_caller]
    pub(crate) fn end(self) -> Finished {
        self.signal("TERM");
        self.wait().expect(0)
    }

    /// Returns whether it is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended.is_none()
    }

    /// Returns the most memory that it has held, in MiB, or `None` when it has ended.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        Some(kib / 1024)
    }

    /// Returns the processor time that it has used so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        /// Linux counts in hundredths of a second, whatever the kernel's own clock.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // The name of the process ends with the last parenthesis; after it, fields 12 and 13 are the user and the system time.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("a number of ticks"));
        TICK * ticks.sum::<u32>()
    }

    /// Returns the path of a file in the folder that it runs in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// As [`Self::wait`], with the most memory that it held, in MiB.
    pub(crate) fn wait_with_peak(mut self) -> (Finished, u64) {
        let mut peak = 0;
        let finished = self.wait_watching(|running| peak = peak.max(running.peak_memory().unwrap_or(0)));
        assert!(peak > 0, "it ended before its memory was looked at");
        (finished, peak)
    }

    /// Waits for the exit. Panics with its output after the deadline.
    pub(crate) fn wait(mut self) -> Finished {
        self.wait_watching(|_| {})
    }

    fn wait_watching(&mut self, mut watch: impl FnMut(&Self)) -> Finished {
        while self.is_running() {
            watch(self);
            if self.started.elapsed() > self.deadline {
                let _ = self.child.kill();
                panic!("{} did not end within {:?}; its stderr:\n{}", self.shown, self.deadline, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = self.started.elapsed();
        let status = self.ended.expect("it has ended");
        let all = |kept: Option<CapturedStream>| kept.map(CapturedStream::all).unwrap_or_default();
        let stdout = all(self.stdout.take());
        let stderr = String::from_utf8_lossy(&all(self.stderr.take())).into_owned();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().expect("a temporary folder"));
        Finished { shown: self.shown.clone(), status, stdout, stderr, took, home }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A finished run.
pub(crate) struct Finished {
    shown: String,
    status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: String,
    /// From start to end.
    pub(crate) took: Duration,
    home: tempfile::TempDir,
}

impl Finished {
    /// Returns the exit code, or `None` when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Panics with the output unless the exit code is `code`; returns itself.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let out = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2000)]).into_owned();
        assert_eq!(
            self.code(),
            Some(code),
            "{} ended with {}\nstdout:\n{out}\nstderr:\n{}",
            self.shown,
            self.status,
            self.stderr
        );
        self
    }

    /// Returns the document that `-o json` wrote.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(document) => document,
            Err(error) => panic!("{} wrote no document ({error}):\n{}", self.shown, String::from_utf8_lossy(&self.stdout)),
        }
    }

    /// Returns the path of a file in the folder that it ran in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}
