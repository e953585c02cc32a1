//! Dead letters on their way to a destination: which are sent, and as what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};

use crate::dlq::letter::Letter;
use crate::dlq::newest::NewestLetters;
use crate::dlq::selection::LetterSelection;
use crate::pipeline::{
    Answers, Assignment, Batch, ConnectorError, LOSS_TARGET, Ordering, Reason, Sink, Transform, TransformResult,
};
use crate::record::Record;

/// The code of a letter that was replayed too often.
const TOO_MANY_REPLAYS: &str = "too_many_replays";

/// The end of the name of a topic, or of the path of a file, with letters that are not replayed any more.
pub(crate) const QUARANTINE: &str = "-quarantine";

/// Returns the topic for the letters of topic `name` that are not replayed any more. Those of a quarantine stay in it.
pub(crate) fn quarantine_of(name: &str) -> String {
    if name.ends_with(QUARANTINE) { name.to_owned() } else { format!("{name}{QUARANTINE}") }
}

/// Which letters are replayed.
#[derive(Clone, Debug)]
pub(crate) struct ReplayRules {
    pub(crate) selection: LetterSelection,
    /// A letter that was replayed as often is quarantined.
    pub(crate) max_replays: u32,
    /// The letters that are there: of a record that has several, only the newest is replayed.
    pub(crate) newest: Arc<NewestLetters>,
}

impl ReplayRules {
    /// Returns whether a letter is not replayed any more.
    pub(crate) fn is_quarantined(&self, letter: &Record) -> bool {
        Letter::of(&letter.headers).is_some_and(|letter| letter.replays >= self.max_replays)
    }

    /// Returns whether `reason` is that the letter was replayed too often: it has not failed again.
    pub(crate) fn is_of_quarantine(reason: &Reason) -> bool {
        reason.code() == TOO_MANY_REPLAYS
    }
}

/// Returns the transform that leaves out records which are not letters or are not selected, and letters that have a later one, and
/// finds letters bad that were replayed too often. It does not change a letter.
pub(crate) fn admit(rules: ReplayRules) -> Transform {
    let left_out = SkippedLetters::default();
    Box::new(move |record| {
        let Some(letter) = Letter::of(&record.headers) else {
            SkippedLetters::count(&left_out.others);
            return TransformResult::Filtered;
        };
        if !rules.selection.includes(&letter) {
            return TransformResult::Filtered;
        }
        if rules.newest.has_later(record, &letter) {
            SkippedLetters::count(&left_out.earlier);
            return TransformResult::Filtered;
        }
        if letter.replays >= rules.max_replays {
            let message = format!("the letter was replayed {} times", letter.replays);
            return TransformResult::Bad(Reason::new(TOO_MANY_REPLAYS, message));
        }
        TransformResult::Keep
    })
}

/// Counts what is left out, and says so at the end.
#[derive(Default)]
struct SkippedLetters {
    /// Records that are not letters.
    others: AtomicU64,
    /// Letters that have a later one.
    earlier: AtomicU64,
}

impl SkippedLetters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, AtomicOrdering::Relaxed);
    }
}

impl Drop for SkippedLetters {
    fn drop(&mut self) {
        match *self.earlier.get_mut() {
            0 => {}
            1 => tracing::info!("1 letter was left out: a later letter of the same record takes its place"),
            earlier => tracing::info!("{earlier} letters were left out: later letters of the same records take their place"),
        }
        match *self.others.get_mut() {
            0 => {}
            1 => tracing::warn!(target: LOSS_TARGET, "1 record is not a dead letter and was left out"),
            others => tracing::warn!(target: LOSS_TARGET, "{others} records are not dead letters and were left out"),
        }
    }
}

/// A destination that gets the original records of the letters that it is given.
pub(crate) struct ReplaySink<K>(pub(crate) K);

impl<K: Sink> Sink for ReplaySink<K> {
    async fn prepare(&self, partitions: &[Assignment]) -> Result<(), ConnectorError> {
        self.0.prepare(partitions).await
    }

    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let original = |record: &Record| match Letter::of(&record.headers) {
            Some(letter) => letter.original(record),
            None => record.clone(),
        };
        self.0.submit(Arc::new(batch.iter().map(original).collect())).await
    }

    // Not `abandon`: the partitions are those of the letters, which the destination does not know. A record that another member
    // sends too is a repeat.

    async fn check(&self) -> Result<(), ConnectorError> {
        self.0.check().await
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        self.0.confirm().await
    }

    fn refusal(&self) -> Option<ConnectorError> {
        self.0.refusal()
    }

    async fn is_available(&self) -> bool {
        self.0.is_available().await
    }

    fn ordering(&self) -> Ordering {
        self.0.ordering()
    }

    fn degraded_reason(&self) -> Option<String> {
        self.0.degraded_reason()
    }
}

/// The flow of a sink, as a letter names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkFlow {
    Mongo { section: String, database: String, collection: String },
    Elastic { section: String, index: String },
}

impl SinkFlow {
    /// Returns the flow that `sdl.dlq.flow` names; `None` of another command.
    pub(crate) fn parse(flow: &str) -> Option<Self> {
        let (command, destination) = flow.split_once(' ')?;
        let (section, name) = destination.split_once('/')?;
        let section = section.to_owned();
        match command {
            "sink-mongo" => {
                let (database, collection) = split_names(name)?;
                Some(Self::Mongo { section, database: database.to_owned(), collection: collection.to_owned() })
            }
            "sink-es" => Some(Self::Elastic { section, index: name.to_owned() }),
            _ => None,
        }
    }
}

/// Splits `database.collection` at the first dot outside of a placeholder: a database has none in its name.
fn split_names(name: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    let at = name.char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        *c == '.' && depth == 0
    })?;
    Some((&name[..at.0], &name[at.0 + 1..]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{Headers, Partition};

    fn letter(replays: &str) -> Record {
        let headers: Headers = [
            ("__connect.errors.topic", "logins"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "42"),
            ("sdl.dlq.code", "c"),
            ("sdl.dlq.replays", replays),
        ]
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))))
        .into();
        Record { partition: Partition::new("bad", 0), offset: 0, timestamp: Some(1), key: None, value: None, headers }
    }

    fn rules(codes: &[&str]) -> ReplayRules {
        let codes = codes.iter().map(ToString::to_string).collect();
        let selection = LetterSelection { codes, ..LetterSelection::default() };
        ReplayRules { selection, max_replays: 3, newest: Arc::new(NewestLetters::new(true)) }
    }

    #[test]
    fn only_selected_letters_are_replayed_and_not_too_often() {
        let admitted = |rules: ReplayRules, mut record: Record| admit(rules)(&mut record);
        assert_eq!(admitted(rules(&[]), letter("2")), TransformResult::Keep);
        assert_eq!(admitted(rules(&["other"]), letter("0")), TransformResult::Filtered);
        assert_eq!(admitted(rules(&["other"]), letter("9")), TransformResult::Filtered, "left where it is");
        let TransformResult::Bad(reason) = admitted(rules(&[]), letter("3")) else { panic!("replayed often enough") };
        assert!(ReplayRules::is_of_quarantine(&reason));
        assert!(rules(&[]).is_quarantined(&letter("3")) && !rules(&[]).is_quarantined(&letter("2")));
        let plain = Record { headers: Headers::new(), ..letter("0") };
        assert_eq!(admitted(rules(&[]), plain), TransformResult::Filtered);
    }

    #[test]
    fn letters_of_a_quarantine_stay_in_it() {
        assert_eq!(quarantine_of("bad"), "bad-quarantine");
        assert_eq!(quarantine_of("bad-quarantine"), "bad-quarantine");
    }

    #[test]
    fn of_a_record_that_failed_again_only_the_newest_letter_is_replayed() {
        let (earlier, later) = (letter("0"), Record { offset: 9, ..letter("1") });
        let mut newest = NewestLetters::new(true);
        for record in [&earlier, &later] {
            newest.add(record, &Letter::of(&record.headers).unwrap());
        }
        let admit = admit(ReplayRules { newest: Arc::new(newest), ..rules(&[]) });
        assert_eq!(admit(&mut earlier.clone()), TransformResult::Filtered);
        assert_eq!(admit(&mut later.clone()), TransformResult::Keep);
    }

    #[test]
    fn the_flow_of_a_letter_names_the_destination_of_its_sink() {
        let mongo = |section: &str, database: &str, collection: &str| {
            let [section, database, collection] = [section, database, collection].map(str::to_owned);
            Some(SinkFlow::Mongo { section, database, collection })
        };
        assert_eq!(SinkFlow::parse("sink-mongo mongodb/logins.raw.eu"), mongo("mongodb", "logins", "raw.eu"));
        assert_eq!(SinkFlow::parse("sink-mongo m/{a.b}.{topic}-%Y"), mongo("m", "{a.b}", "{topic}-%Y"));
        let elastic = SinkFlow::Elastic { section: "es".to_owned(), index: "{topic}/x".to_owned() };
        assert_eq!(SinkFlow::parse("sink-es es/{topic}/x"), Some(elastic));
        for other in ["", "replicate local_kafka/orders", "sink-es", "sink-mongo mongodb/x"] {
            assert_eq!(SinkFlow::parse(other), None, "{other}");
        }
    }
}
