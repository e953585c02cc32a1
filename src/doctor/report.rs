//! The steps of an examination, and what each found. Pure.

use std::net::SocketAddr;

use crate::number::counted;
use crate::pipeline::{ConnectStep, ConnectorError, Failure, FailureKind};
use crate::profile::SectionKind;

/// The names of steps that several kinds of server have.
pub(crate) const NAME: &str = "name";
pub(crate) const TCP: &str = "tcp";
pub(crate) const TLS: &str = "tls";
pub(crate) const LOGIN: &str = "login";
pub(crate) const RIGHTS: &str = "rights";
pub(crate) const CLOCK: &str = "clock";
pub(crate) const ROUNDTRIP: &str = "roundtrip";

/// A clock that differs by more than this makes times of records wrong: lag in time, windows, retention.
const MAX_CLOCK_DIFFERENCE_MS: i64 = 5_000;

/// A certificate that expires sooner is worth a warning.
const MIN_CERTIFICATE_DAYS: i64 = 30;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepStatus {
    Ok,
    /// It works, but not for everything, or not for long.
    Warn,
    /// Commands that need it fail.
    Fail,
    /// It could not be examined.
    Skipped,
}

impl StepStatus {
    /// Returns the word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// A step, or one of several findings of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The same for every version: `tcp`.
    pub(crate) name: &'static str,
    pub(crate) status: StepStatus,
    /// What was found; of a skipped step, why it was skipped.
    pub(crate) finding: String,
    /// The key to change, and to what.
    pub(crate) hint: Option<String>,
    /// Whether the finding of a skipped step stands by itself, rather than behind "because".
    pub(crate) is_note: bool,
}

impl Step {
    pub(crate) fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, status: StepStatus::Ok, finding: finding.into(), hint: None, is_note: false }
    }

    pub(crate) fn warn(name: &'static str, finding: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: StepStatus::Warn, finding: finding.into(), hint: Some(hint.into()), is_note: false }
    }

    pub(crate) fn fail(name: &'static str, finding: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, status: StepStatus::Fail, finding: finding.into(), hint: Some(hint.into()), is_note: false }
    }

    /// Returns a step that was skipped `because` of something.
    pub(crate) fn skipped(name: &'static str, because: impl Into<String>) -> Self {
        Self { name, status: StepStatus::Skipped, finding: because.into(), hint: None, is_note: false }
    }

    /// Returns a step that was skipped, with what it needs.
    pub(crate) fn note(name: &'static str, needs: impl Into<String>) -> Self {
        Self { is_note: true, ..Self::skipped(name, needs) }
    }

    /// Returns the step of a round trip that has failed, and may have left something at `place`.
    pub(crate) fn left_behind(place: &str) -> Self {
        Self::warn(ROUNDTRIP, format!("{place} may be left behind"), "remove it")
    }

    /// Returns the step that ended with an error, in the words of the commands that meet it.
    pub(crate) fn failed(name: &'static str, error: &ConnectorError) -> Self {
        let (finding, hint) = match error {
            ConnectorError::Failed(failure) => (sentence(failure), failure.hint.clone()),
            ConnectorError::Refused(refused) => {
                let numbers = refused.numbers.iter().fold(refused.what.clone(), |text, number| format!("{text}; {number}"));
                (numbers, Some(refused.hint.clone()))
            }
            ConnectorError::Refusal(refusal) => (refusal.what.clone(), None),
        };
        Self { name, status: StepStatus::Fail, finding, hint, is_note: false }
    }
}

/// Returns a failure in one line; that a connection failed, the step says.
fn sentence(failure: &Failure) -> String {
    match failure.kind {
        FailureKind::Connect(_) if !failure.causes.is_empty() => failure.causes.join(": "),
        _ => failure.to_string(),
    }
}

/// The name of what documents are written to, as the section has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DestinationName<N> {
    /// The section has none, or it depends on records.
    #[default]
    Open,
    Fixed(N),
    /// The commands refuse the value of this key.
    Invalid {
        key: &'static str,
        why: String,
    },
}

impl<N> DestinationName<N> {
    /// Returns the failure of the step `name` for an invalid name.
    pub(crate) fn fault(&self, name: &'static str, section: &str) -> Option<Step> {
        let Self::Invalid { key, why } = self else { return None };
        Some(Step::fail(name, why.clone(), format!("correct `{key}` under [{section}]")))
    }
}

/// The steps of the examination of one section, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoctorReport {
    pub(crate) section: String,
    pub(crate) kind: SectionKind,
    pub(crate) steps: Vec<Step>,
}

impl DoctorReport {
    pub(crate) fn new(section: &str, kind: SectionKind) -> Self {
        Self { section: section.to_owned(), kind, steps: Vec::new() }
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds a step, unless the report has it: the topics of a section may be the same.
    pub(crate) fn push_once(&mut self, step: Step) {
        if !self.steps.contains(&step) {
            self.push(step);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Fail)
    }

    /// Returns the first step that failed.
    fn first_failed(&self) -> Option<&'static str> {
        self.steps.iter().find(|step| step.status == StepStatus::Fail).map(|step| step.name)
    }

    /// Adds those of these steps that the report lacks, as skipped because of the first one that failed.
    pub(crate) fn skip_rest(&mut self, steps: &[&'static str]) {
        let because = self.first_failed().map_or_else(|| "the examination ended".to_owned(), |failed| format!("{failed} failed"));
        for name in steps {
            if !self.steps.iter().any(|step| step.name == *name) {
                self.push(Step::skipped(name, because.clone()));
            }
        }
    }

    /// Adds the step of several servers, of which one is enough: what was found of each, or why it failed. Returns whether one succeeds.
    pub(crate) fn push_servers(&mut self, name: &'static str, answers: Vec<Result<String, Failure>>) -> bool {
        let good: Vec<String> = answers.iter().filter_map(|answer| answer.as_ref().ok().cloned()).collect();
        // Clients go on with the next server.
        let status = if good.is_empty() { StepStatus::Fail } else { StepStatus::Warn };
        if !good.is_empty() {
            self.push(Step::ok(name, good.join("; ")));
        }
        for failure in answers.into_iter().filter_map(Result::err) {
            self.push(Step { status, ..Step::failed(name, &failure.into()) });
        }
        !good.is_empty()
    }

    /// Adds the steps of a first contact up to the one that failed: TLS, login, and the first request, which is called `request`.
    pub(crate) fn push_failed_contact(&mut self, error: &ConnectorError, contact: &Contact, request: &'static str) {
        let at = match error {
            ConnectorError::Failed(Failure { kind: FailureKind::Connect(step), .. }) => *step,
            _ => ConnectStep::Request,
        };
        // A server that accepts connections and is silent: the first step that expects an answer fails.
        let at = match at {
            ConnectStep::NameLookup | ConnectStep::Connect if contact.is_encrypted => ConnectStep::TlsHandshake,
            ConnectStep::NameLookup | ConnectStep::Connect if contact.logs_in => ConnectStep::Login,
            ConnectStep::NameLookup | ConnectStep::Connect => ConnectStep::Request,
            at => at,
        };
        if at > ConnectStep::TlsHandshake {
            self.push(contact.tls.clone());
        }
        if at > ConnectStep::Login {
            self.push(contact.login.clone());
        }
        let failed = match at {
            ConnectStep::TlsHandshake => contact.tls.name,
            ConnectStep::Login => contact.login.name,
            _ => request,
        };
        self.push(Step::failed(failed, error));
    }
}

/// Returns the name and its addresses; only the name if it is an address.
pub(crate) fn resolved(server: &str, addresses: &[SocketAddr]) -> String {
    let mut ips: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    ips.dedup();
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    if host.trim_matches(['[', ']']) == ips[0] {
        format!("{host} is an address")
    } else {
        format!("{host} is {}", ips.join(", "))
    }
}

/// Judges two times in milliseconds since the Unix epoch: that of a `server`, which is the noun for it, and the one here.
pub(crate) fn clock(server: &str, there: i64, here: i64) -> Step {
    let difference = there - here;
    let seconds = format!("{}.{} s", difference.abs() / 1_000, difference.abs() % 1_000 / 100);
    if difference.abs() <= MAX_CLOCK_DIFFERENCE_MS {
        return Step::ok(CLOCK, format!("that of the {server} differs by {seconds}"));
    }
    let which = if difference > 0 { "ahead of" } else { "behind" };
    let finding = format!("the clock of the {server} is {seconds} {which} the one here");
    Step::warn(CLOCK, finding, "correct the clock that is wrong: lag in time, windows and retention depend on them")
}

/// Judges the last second in which a certificate that is trusted is valid, and the time `now`, both since the Unix epoch.
pub(crate) fn certificate(valid_until: i64, now: i64) -> Step {
    let day =
        jiff::Timestamp::from_second(valid_until).map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string());
    let days = (valid_until - now).max(0) / 86_400;
    if days < MIN_CERTIFICATE_DAYS {
        let finding = format!("the certificate is trusted, and expires in {}, on {day}", counted(days.unsigned_abs(), "day"));
        return Step::warn(TLS, finding, "renew the certificate of the server");
    }
    Step::ok(TLS, format!("the certificate is trusted, valid for the name, and until {day}"))
}

/// How a section connects, and the steps of a contact that succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) is_encrypted: bool,
    pub(crate) logs_in: bool,
    pub(crate) tls: Step,
    pub(crate) login: Step,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(step: ConnectStep) -> ConnectorError {
        let failure = Failure::new("cannot connect to `s`").because("a:1: it fails").hint("correct it");
        failure.kind(FailureKind::Connect(step)).into()
    }

    fn contact(is_encrypted: bool) -> Contact {
        Contact { is_encrypted, logs_in: true, tls: Step::ok("tls", "on"), login: Step::ok("login", "u") }
    }

    fn shown(report: &DoctorReport) -> Vec<String> {
        let line = |step: &Step| format!("{} {} {}", step.name, step.status.as_str(), step.finding);
        report.steps.iter().map(line).collect()
    }

    #[test]
    fn steps_after_a_failed_one_are_skipped_because_of_it() {
        let steps = ["name", "tcp", "tls", "login", "versions", "topics"];
        for (at, expected) in [
            (ConnectStep::Connect, "tcp fail a:1: it fails"),
            (ConnectStep::TlsHandshake, "tls fail a:1: it fails"),
            (ConnectStep::Login, "tls ok on|login fail a:1: it fails"),
            (ConnectStep::Request, "tls ok on|login ok u|versions fail a:1: it fails"),
        ] {
            let mut report = DoctorReport::new("s", SectionKind::Kafka);
            report.push(Step::ok("name", "a"));
            if at == ConnectStep::Connect {
                report.push(Step::failed("tcp", &error(at)));
            } else {
                report.push(Step::ok("tcp", "a:1"));
                report.push_failed_contact(&error(at), &contact(true), "versions");
            }
            report.skip_rest(&steps);
            let shown = shown(&report);
            let names: Vec<_> = report.steps.iter().map(|step| step.name).collect();
            assert_eq!(names, steps, "each step once, in order");
            assert!(shown.join("|").contains(expected), "{shown:?}");
            let failed = report.first_failed().unwrap();
            assert_eq!(shown[5], format!("topics skipped {failed} failed"));
            assert!(report.has_failed());
        }
    }

    #[test]
    fn a_finding_about_a_topic_that_is_read_and_written_is_there_once() {
        let mut report = DoctorReport::new("s", SectionKind::Kafka);
        let warning = || {
            Step::warn("rights", "not allowed to read the settings of topic `t`", "give the user DESCRIBE_CONFIGS on the topic")
        };
        for step in [Step::ok("rights", "may read topic `t`"), warning(), Step::ok("rights", "may write to topic `t`"), warning()]
        {
            report.push_once(step);
        }
        assert_eq!(report.steps.len(), 3, "{:?}", report.steps);
    }

    #[test]
    fn a_server_that_accepts_connections_and_is_silent_fails_the_first_step_that_expects_an_answer() {
        for (is_encrypted, failed) in [(true, "tls"), (false, "login")] {
            let mut report = DoctorReport::new("s", SectionKind::Kafka);
            report.push_failed_contact(&error(ConnectStep::Connect), &contact(is_encrypted), "versions");
            assert_eq!(report.first_failed(), Some(failed));
        }
    }

    #[test]
    fn clocks_may_differ_by_seconds() {
        assert_eq!(clock("broker", 1_000, 1_400), Step::ok(CLOCK, "that of the broker differs by 0.4 s"));
        assert_eq!(clock("broker", 61_000, 1_000).finding, "the clock of the broker is 60.0 s ahead of the one here");
        assert_eq!(clock("broker", 1_000, 61_500).status, StepStatus::Warn);
    }

    #[test]
    fn a_certificate_that_expires_soon_is_a_warning() {
        let (day, now) = (86_400, 1_000 * 86_400);
        assert_eq!(
            certificate(now + 30 * day, now),
            Step::ok(TLS, "the certificate is trusted, valid for the name, and until 1972-10-27")
        );
        let soon = certificate(now + day, now);
        assert_eq!(
            (soon.status, soon.finding.as_str()),
            (StepStatus::Warn, "the certificate is trusted, and expires in 1 day, on 1972-09-28")
        );
    }

    #[test]
    fn a_name_is_shown_with_its_addresses() {
        let addresses = |text: &str| text.split(' ').map(|address| address.parse().unwrap()).collect::<Vec<SocketAddr>>();
        assert_eq!(resolved("db:1", &addresses("10.0.0.1:1 10.0.0.2:1")), "db is 10.0.0.1, 10.0.0.2");
        assert_eq!(resolved("[::1]:1", &addresses("[::1]:1")), "[::1] is an address");
    }

    #[test]
    fn an_error_is_told_in_one_line() {
        assert_eq!(Step::failed("tcp", &error(ConnectStep::Connect)), Step::fail("tcp", "a:1: it fails", "correct it"));
        let other = Failure::new("cannot list the topics of `s`").because("no answer in time");
        let step = Step::failed("topics", &other.into());
        assert_eq!((step.finding.as_str(), step.hint), ("cannot list the topics of `s`: no answer in time", None));
    }
}
