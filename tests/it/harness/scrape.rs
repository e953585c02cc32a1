//! The metrics endpoint of a run.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{Running, eventually, promtool};

const SCRAPE_TIMEOUT: Duration = Duration::from_secs(40);

/// The endpoint of a run.
pub(crate) struct Scrape {
    /// Address and port.
    pub(crate) address: String,
}

impl Scrape {
    /// Waits until a run logs the address of its metrics.
    #[track_caller]
    pub(crate) fn of(running: &mut Running) -> Self {
        running.wait_for_stderr("/metrics");
        let output = running.stderr();
        let address = output.split("Serving metrics at http://").nth(1).and_then(|rest| rest.split('/').next());
        Self { address: address.unwrap_or_else(|| panic!("no address in\n{output}")).to_owned() }
    }

    /// Returns the status and the body of a GET of `path`; `None` when the port is closed.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let (head, body) = self.response(path, &self.address)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some((status, body))
    }

    /// Returns the head and the body of the response to a GET of `path` from a client that calls the server `host`.
    pub(crate) fn response(&self, path: &str, host: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        Some((head.to_owned(), body.to_owned()))
    }

    /// Returns the page of metrics.
    #[track_caller]
    pub(crate) fn page(&self) -> MetricsPage {
        let (status, text) = self.get("/metrics").expect("it listens");
        assert_eq!(status, 200, "{text}");
        MetricsPage(text)
    }

    /// Waits until the page is one for which `holds`, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&MetricsPage) -> bool) -> MetricsPage {
        eventually(what, SCRAPE_TIMEOUT, || Some(self.page()).filter(&holds))
    }

    /// Waits until `/readyz` answers with this status, and returns its body.
    #[track_caller]
    pub(crate) fn wait_for_readyz(&self, wanted: u16) -> String {
        let what = format!("/readyz answers with {wanted}");
        eventually(&what, SCRAPE_TIMEOUT, || {
            self.get("/readyz").filter(|(status, _)| *status == wanted).map(|(_, output)| output)
        })
    }
}

/// A page of metrics.
pub(crate) struct MetricsPage(pub(crate) String);

impl MetricsPage {
    /// Returns the value of a sample, which is named with its labels; `None` where there is none.
    pub(crate) fn value(&self, sample: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    /// Returns the names of its samples, in order, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let samples = self.0.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut names: Vec<_> = samples.map(|line| line.split(['{', ' ']).next().unwrap_or(line)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Panics unless `promtool check metrics` passes. Skipped without promtool.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        self.assert_sound_but(&[]);
    }

    /// Panics unless `promtool check metrics` passes, apart from the names of these metrics.
    #[track_caller]
    pub(crate) fn assert_sound_but(&self, names: &[&str]) {
        let Some(judged) = promtool(&["check", "metrics"], &self.0) else { return };
        let is_known = |line: &str| names.iter().any(|name| line.starts_with(&format!("{name} ")));
        let wrong: Vec<_> = judged.output.lines().filter(|line| !is_known(line)).collect();
        assert!(wrong.is_empty() && (judged.well || !judged.output.is_empty()), "{wrong:?}\n{}", self.0);
    }
}
