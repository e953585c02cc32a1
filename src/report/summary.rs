//! The summary of a run: for people, and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::number::grouped;
use crate::pipeline::{RunOutcome, RunReport, Tally};
use crate::report::run_status::{RunInfo, RunStatus};
use crate::terminal::{escape_controls, escape_controls_json};

/// The most partitions that the text lists.
const MAX_PARTITIONS_SHOWN: usize = 24;

/// The summary of a run. Its JSON is a contract, versioned by `schema`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    schema: u32,
    pub(crate) command: &'static str,
    pub(crate) run: String,
    /// `complete`, `interrupted`, `failed` or `bad_record`.
    pub(crate) ended: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Why records were left undelivered, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered_because: Option<String>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    records_per_second: f64,
    bytes_per_second: f64,
    partitions: Vec<SummaryPosition>,
    #[serde(skip)]
    route: String,
    /// The command that looks at the dead letters.
    #[serde(skip)]
    letters: Option<String>,
    /// Whether records are read rather than produced.
    #[serde(skip)]
    pub(crate) reads: bool,
}

#[derive(Clone, Debug, Serialize)]
#[allow(clippy::struct_field_names)] // the names are the document's
struct SummaryPosition {
    topic: String,
    partition: i32,
    position: i64,
    /// The position that the broker confirmed.
    committed: Option<i64>,
}

impl Summary {
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // rates
    pub(crate) fn new(headline: &RunInfo, finished: &RunReport, journal: &RunStatus) -> Self {
        let seconds = finished.elapsed.as_secs_f64();
        let (ended, error) = match &finished.outcome {
            RunOutcome::Complete => ("complete", None),
            RunOutcome::Interrupted => ("interrupted", None),
            RunOutcome::Failed(error) => ("failed", Some(error.to_string())),
            RunOutcome::Record(failure) => ("bad_record", Some(failure.to_string())),
        };
        let entries = journal.lock();
        let position = |(partition, next): &(crate::record::Partition, crate::record::NextOffset)| SummaryPosition {
            topic: partition.topic.to_string(),
            partition: partition.index,
            position: next.0,
            committed: entries.committed.get(partition).map(|next| next.0),
        };
        Self {
            schema: 1,
            command: headline.command,
            run: headline.run.clone(),
            ended,
            error,
            undelivered_because: entries.hindrance().filter(|_| finished.tally.undelivered > 0).map(|it| it.text()),
            tally: finished.tally.clone(),
            seconds,
            records_per_second: finished.tally.delivered as f64 / seconds.max(0.001),
            bytes_per_second: finished.tally.bytes as f64 / seconds.max(0.001),
            partitions: finished.positions.iter().filter(|_| headline.has_positions).map(position).collect(),
            route: headline.route.clone(),
            letters: None,
            reads: headline.has_positions,
        }
    }

    /// Names the command that looks at the dead letters of the run.
    #[must_use]
    pub(crate) fn with_letters(self, look: Option<&str>) -> Self {
        Self { letters: look.map(str::to_owned), ..self }
    }

    /// Returns the summary as one JSON document.
    #[must_use]
    pub(crate) fn json(&self) -> String {
        let mut json = serde_json::to_string(self).expect("numbers and strings are JSON") + "\n";
        if !self.reads {
            // The first unescaped match is the tally's key: inside a string the quotes are escaped.
            json = json.replacen("\"read\":", "\"produced\":", 1);
        }
        escape_controls_json(&json).into_owned()
    }

    /// Returns the summary for people; `brief` leaves the partitions out.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // rates for people
    pub(crate) fn text(&self, brief: bool) -> String {
        let took = humantime::format_duration(Duration::from_millis((self.seconds * 1000.0) as u64));
        let ended = if self.ended == "bad_record" { "stopped at a bad record" } else { self.ended };
        let tally = &self.tally;
        let mut text = format!("{} {}: {ended} after {took}\n", self.command, self.route);
        // A source without positions is a generator.
        let (taken, delivered) = if self.reads { ("read", "delivered") } else { ("made", "sent") };
        let _ = writeln!(text, "  {taken:<13} {:>14}", grouped(tally.read));
        let of_these = [("already there", tally.already_there), ("superseded", tally.superseded)];
        let of_these: Vec<_> =
            of_these.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{} {name}", grouped(*n))).collect();
        let note = if of_these.is_empty() { String::new() } else { format!("  ({})", of_these.join(", ")) };
        let _ = writeln!(text, "  {delivered:<13} {:>14}{note}", grouped(tally.delivered));
        let rest = [
            ("dead-lettered", tally.dead_lettered),
            ("skipped", tally.skipped),
            ("filtered", tally.filtered),
            ("late", tally.late),
            ("replayed", tally.replayed),
            ("handed back", tally.released),
            ("undelivered", tally.undelivered),
        ];
        for (name, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
            let note = match name {
                "dead-lettered" => self.letters.as_deref(),
                "undelivered" => self.undelivered_because.as_deref(),
                // A condition with a typing error ends as one that is meant: without a delivery.
                "filtered" if count == tally.read => Some("every record: nothing was delivered"),
                _ => None,
            };
            let note = note.map_or_else(String::new, |note| format!("  ({})", escape_controls(note)));
            let _ = writeln!(text, "  {name:<14}{:>14}{note}", grouped(count));
        }
        let retried = if tally.retried > 0 { format!(", {} sent again", grouped(tally.retried)) } else { String::new() };
        // Without a delivery, as when everything is filtered, the rate is that of the source.
        let is_idle = tally.delivered == 0 && tally.read > 0;
        let per_second = if is_idle { tally.read as f64 / self.seconds.max(0.001) } else { self.records_per_second };
        let rate = grouped(per_second as u64);
        let what = if is_idle { format!("records/s {taken}") } else { "records/s".to_owned() };
        // A rate of bytes that would be shown as 0.0 says nothing.
        let megabytes = Some(self.bytes_per_second / 1e6).filter(|rate| *rate >= 0.05);
        let megabytes = megabytes.map(|rate| format!(", {rate:.1} MB/s")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {rate} {what}{megabytes}, {} {}{retried}",
            grouped(tally.batches),
            if tally.batches == 1 { "batch" } else { "batches" }
        );
        if brief {
            return text;
        }
        if self.partitions.len() > MAX_PARTITIONS_SHOWN {
            let _ = writeln!(text, "  {} partitions (each with -o json)", self.partitions.len());
            return text;
        }
        for SummaryPosition { topic, partition, position, committed } in &self.partitions {
            let committed = match committed {
                Some(committed) if committed == position => "committed".to_owned(),
                Some(committed) => {
                    let again = u64::try_from(position - committed).ok().filter(|again| *again > 0);
                    let again = again.map_or_else(String::new, |again| format!(": {} will be read again", grouped(again)));
                    format!("committed {}{again}", grouped(committed.cast_unsigned()))
                }
                None => "nothing new committed".to_owned(),
            };
            let _ = writeln!(text, "  {topic}/{partition} at {}, {committed}", grouped((*position).cast_unsigned()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Event, Failure, Observer as _, RunSide, SideProblem};
    use crate::record::{NextOffset, Partition};

    #[test]
    fn a_summary_names_what_will_be_read_again_and_where_the_run_stopped() {
        let headline = RunInfo { command: "replicate", run: String::new(), route: "a → b".to_owned(), has_positions: true };
        let partition = Partition::new("summary", 0);
        let status = RunStatus::default();
        status.on(&Event::Committed(&[(partition, NextOffset(508))]));
        let (outcome, elapsed) = (RunOutcome::Record(Failure::new("it is bad")), Duration::from_millis(240));
        let positions = vec![(partition, NextOffset(1_483))];
        let report = RunReport { tally: Tally::default(), outcome, positions, closed: Ok(()), elapsed };
        let text = Summary::new(&headline, &report, &status).text(false);
        assert!(text.starts_with("replicate a → b: stopped at a bad record after 240ms\n"), "{text}");
        assert!(text.ends_with("\n  summary/0 at 1,483, committed 508: 975 will be read again\n"), "{text}");
    }

    #[test]
    fn records_that_were_not_delivered_have_the_cause_beside_their_number() {
        let headline = RunInfo { command: "replicate", run: String::new(), route: "a → b".to_owned(), has_positions: true };
        let summary = |undelivered| {
            let status = RunStatus::default();
            let problem = SideProblem { code: "c".to_owned(), reason: "b:1: connection refused".to_owned(), is_stalled: true };
            status.on(&Event::Problem { side: RunSide::Target, problem: Some(&problem) });
            let tally = Tally { read: 20_000, undelivered, ..Tally::default() };
            let (outcome, elapsed) = (RunOutcome::Interrupted, Duration::from_secs(1));
            let report = RunReport { tally, outcome, positions: Vec::new(), closed: Ok(()), elapsed };
            Summary::new(&headline, &report, &status)
        };
        let text = summary(20_000).text(true);
        assert!(text.contains("  undelivered           20,000  (delivery stalled: b:1: connection refused)\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&summary(20_000).json()).unwrap();
        assert_eq!(json["undelivered_because"], "delivery stalled: b:1: connection refused");
        assert!(!summary(0).json().contains("undelivered_because"));
    }

    #[test]
    fn a_run_that_filters_everything_has_the_rate_of_its_source() {
        let text = |tally: Tally| {
            let headline = RunInfo { command: "replicate", run: String::new(), route: "a → b".to_owned(), has_positions: true };
            let (outcome, elapsed) = (RunOutcome::Complete, Duration::from_secs(2));
            let report = RunReport { tally, outcome, positions: Vec::new(), closed: Ok(()), elapsed };
            Summary::new(&headline, &report, &RunStatus::default()).text(true)
        };
        let filtered = text(Tally { read: 10, filtered: 10, ..Tally::default() });
        assert!(filtered.contains("\n  5 records/s read, 0 batches\n"), "{filtered}");
        assert!(filtered.contains(" 10  (every record: nothing was delivered)\n"), "{filtered}");
        let some = text(Tally { read: 10, delivered: 1, filtered: 9, ..Tally::default() });
        assert!(!some.contains("every record"), "{some}");
        let delivered = text(Tally { read: 10, delivered: 10, ..Tally::default() });
        assert!(delivered.contains("\n  5 records/s, 0 batches\n"), "{delivered}");
    }
}
