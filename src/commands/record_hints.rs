//! What helps against a bad record or a destination that stops the run: the reasons know no flags, the commands add them.

use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Ordering, Outcome, Reason, Sink};

/// A sink whose reasons have hints that name flags.
pub(crate) struct WithHints<K>(pub(crate) K);

impl<K: Sink> Sink for WithHints<K> {
    async fn prepare(&self, partitions: &[Assignment]) -> Result<(), ConnectorError> {
        self.0.prepare(partitions).await
    }

    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let answers = self.0.submit(batch).await?;
        Ok(Box::pin(async move { answers.await.into_iter().map(with_hint).collect() }))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        self.0.check().await
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

fn with_hint(outcome: Outcome) -> Outcome {
    let add = |reason: Reason| match hint(reason.code()).filter(|_| reason.hinted().is_none()) {
        Some(hint) => reason.hint(hint),
        None => reason,
    };
    match outcome {
        Outcome::Reject(reason) => Outcome::Reject(add(reason)),
        Outcome::Unclear(reason) => Outcome::Unclear(add(reason)), // the engine may find the record to blame
        Outcome::BatchRejected(reason) => Outcome::BatchRejected(add(reason)),
        Outcome::Stop(reason) => Outcome::Stop(add(reason)),
        outcome => outcome,
    }
}

/// Returns what helps against a reason, by its code.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "missing_key" => "--id offset takes records without key",
        "key_not_text" => "--id offset takes records whatever their key",
        "empty_id" => "--id offset needs neither key nor field",
        "id_too_long" => "--id offset makes short ones",
        "foreign_id" => "--id field:_id takes it for the id; --drop _id leaves it out",
        "claimed_field" => "--meta-prefix gives metadata fields other names; --no-meta leaves them out",
        "not_json" => "--raw-value text or binary wraps what is not JSON",
        "not_a_date" => "--time-field takes Unix seconds or milliseconds and ISO 8601",
        "too_many_names" => "--max-names allows more",
        "tombstone" => "--on-tombstone skip leaves it out",
        "empty_routing" => "correct --routing",
        "repeated_name" => "--drop leaves a field out, however often it is there",
        "no_literal_name" => "--write replace stores such names",
        "document_too_large" => "--keep or --drop make it smaller; --dead-letters file:PATH sets it aside",
        "document_missing" | "document_missing_exception" => "--op upsert creates it then",
        "pipeline_missing" => "create the pipeline, or correct --pipeline",
        "ambiguous_index" => "name one index with --index",
        "too_large" => "raise `http.max_content_length` of the server, or set such records aside with --dead-letters",
        "too_large_for_memory" => {
            "raise `indexing_pressure.memory.limit` of the server, or set such records aside with --dead-letters"
        }
        "mongodb_73" | "mongodb_13297" => "name another with --database or --collection",
        "mongodb_11000" => "set such records aside with --dead-letters, or drop the index",
        "foreign_record" => "tell them apart with --id-prefix, or write to another index or collection",
        "foreign_version" => "let the later one win with --version timestamp, or write to another index or collection",
        "foreign_document" => "leave --no-meta out, or tell them apart with --id-prefix, or write to another index or collection",
        "foreign_document_version" => {
            "leave --no-meta out, or let the later one win with --version timestamp, or write to another index or collection"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_gets_the_hint_of_its_code_unless_it_has_one() {
        let hinted = |reason: Reason| match with_hint(Outcome::Reject(reason)) {
            Outcome::Reject(reason) => reason.hinted().map(str::to_owned),
            other => panic!("{other:?}"),
        };
        assert_eq!(hinted(Reason::new("empty_routing", "m")).as_deref(), Some("correct --routing"));
        assert_eq!(hinted(Reason::new("not_json", "m").hint("Confluent wire format")).as_deref(), Some("Confluent wire format"));
        assert_eq!(hinted(Reason::new("unknown", "m")), None);
        assert_eq!(with_hint(Outcome::Delivered), Outcome::Delivered);
    }
}
