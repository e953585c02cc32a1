//! What a run serves to a monitoring system.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Running, until};

const PATIENCE: Duration = Duration::from_secs(40);

/// The endpoint of a run.
pub(crate) struct Scrape {
    /// Address and port.
    pub(crate) address: String,
}

impl Scrape {
    /// Waits until a run says where it serves metrics.
    #[track_caller]
    pub(crate) fn of(running: &mut Running) -> Self {
        running.until_stderr("/metrics");
        let said = running.stderr();
        let address = said.split("Serving metrics at http://").nth(1).and_then(|rest| rest.split('/').next());
        Self { address: address.unwrap_or_else(|| panic!("no address in\n{said}")).to_owned() }
    }

    /// Returns the status and the body of what is at `path`; `None` when nobody listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("it is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some((status, body.to_owned()))
    }

    /// Returns the page of metrics.
    #[track_caller]
    pub(crate) fn page(&self) -> Page {
        let (status, text) = self.get("/metrics").expect("it listens");
        assert_eq!(status, 200, "{text}");
        Page(text)
    }

    /// Waits until the page is one for which `holds`, and returns it.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Page) -> bool) -> Page {
        until(what, PATIENCE, || Some(self.page()).filter(&holds))
    }

    /// Waits until `/readyz` answers with this status, and returns what it says.
    #[track_caller]
    pub(crate) fn until_ready(&self, wanted: u16) -> String {
        let what = format!("/readyz answers with {wanted}");
        until(&what, PATIENCE, || self.get("/readyz").filter(|(status, _)| *status == wanted).map(|(_, said)| said))
    }
}

/// A page of metrics.
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// Returns the value of a sample, which is named with its labels; `None` where there is none.
    pub(crate) fn value(&self, sample: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    /// Panics unless `promtool check metrics` has nothing to say about it. Without promtool, that is left out.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let mut promtool =
            match Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() {
                Ok(promtool) => promtool,
                Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
                    eprintln!("left out: promtool is not there: {error}");
                    return;
                }
                Err(error) => panic!("promtool does not start: {error}"),
            };
        promtool.stdin.take().expect("its input").write_all(self.0.as_bytes()).expect("it takes the page");
        let said = promtool.wait_with_output().expect("promtool ends");
        assert!(said.status.success() && said.stderr.is_empty(), "{}\n{}", String::from_utf8_lossy(&said.stderr), self.0);
    }
}
