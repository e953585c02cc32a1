//! What helps against a bad record or a destination that stops the run: the reasons know no flags, the commands add them.

use crate::error::hints::record_hint;
use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Ordering, Outcome, Reason, Sink};
use crate::record::Partition;

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

    fn abandon(&self, partitions: &[Partition]) {
        self.0.abandon(partitions);
    }

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

fn with_hint(outcome: Outcome) -> Outcome {
    let add = |reason: Reason| match record_hint(reason.code()).filter(|_| reason.hinted().is_none()) {
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
