//! Records into Elasticsearch or OpenSearch: sent in bulks, and answered one by one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::connectors::elastic::bootstrap::{self, Bootstrap};
use crate::connectors::elastic::bulk_writer::ElasticBulkWriter;
use crate::connectors::elastic::client::ElasticClient;
use crate::connectors::elastic::identity::IndexIdentity;
use crate::connectors::elastic::index::{self, IndexKind};
use crate::connectors::elastic::lookup::{ElasticLookup, IdConflict};
use crate::connectors::elastic::merge::merge;
use crate::connectors::elastic::response::{BulkAction, ItemVerdict};
use crate::connectors::elastic::target::{ElasticSinkOptions, ElasticTarget, InvalidElasticOptions};
use crate::document::{DocumentBatch, DocumentMapper, Version};
use crate::pipeline::{Answers, Batch, ConnectorError, Ordering, Outcome, Sink, answers_from_task};
use crate::record::Record;

/// A cluster as a destination.
pub struct ElasticSink {
    parts: Arc<SinkParts>,
}

struct SinkParts {
    target: Arc<ElasticTarget>,
    writer: ElasticBulkWriter,
    lookup: ElasticLookup,
}

impl ElasticSink {
    /// Returns a sink for the documents of `mapper`, whose first name is the index.
    ///
    /// # Errors
    /// As [`ElasticSinkOptions::choose_op`].
    pub fn new(
        client: ElasticClient,
        mapper: DocumentMapper,
        options: ElasticSinkOptions,
    ) -> Result<Self, InvalidElasticOptions> {
        let target = Arc::new(ElasticTarget::new(client, mapper, options)?);
        let (writer, lookup) = (ElasticBulkWriter::new(Arc::clone(&target)), ElasticLookup::new(Arc::clone(&target)));
        Ok(Self { parts: Arc::new(SinkParts { target, writer, lookup }) })
    }

    /// Returns the lines of the plan: destination, write mode, and what the run would create.
    #[must_use]
    pub fn plan(&self, index: &IndexKind) -> Vec<String> {
        index::plan(&self.parts.target, index)
    }

    /// Returns what the name of the index refers to.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn index(&self) -> Result<IndexKind, ConnectorError> {
        index::find(&self.parts.target).await
    }

    /// Checks that the ingest pipeline exists, as far as the user may ask.
    ///
    /// # Errors
    /// When it does not, or no node answers.
    pub async fn check_pipeline(&self) -> Result<(), ConnectorError> {
        index::require_pipeline(&self.parts.target).await
    }

    /// Creates the index if it is missing. A data stream creates itself, if there is a template for it.
    ///
    /// # Errors
    /// When the server does not create it, or would create something else.
    pub async fn create(&self, found: &IndexKind) -> Result<(), ConnectorError> {
        index::create(&self.parts.target, found).await
    }

    /// Returns what tells whether the index is still the one that was written to; nothing for names that depend on records.
    #[must_use]
    pub fn identity(&self) -> Option<IndexIdentity> {
        IndexIdentity::of(&self.parts.target)
    }

    /// Returns the name of the index template for these records, and the pattern of the indices that it is for.
    ///
    /// # Errors
    /// When it would be for every index of the cluster.
    pub fn template(&self, of: Bootstrap) -> Result<(String, String), ConnectorError> {
        bootstrap::template(&self.parts.target, of)
    }

    /// Installs the index template, over one that was installed earlier.
    ///
    /// # Errors
    /// When the server rejects it.
    pub async fn bootstrap(&self, of: Bootstrap) -> Result<(), ConnectorError> {
        bootstrap::install(&self.parts.target, of).await
    }
}

impl Sink for ElasticSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let parts = Arc::clone(&self.parts);
        Ok(answers_from_task(tokio::spawn(async move { parts.deliver(&batch).await })))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        index::probe(&self.parts.target).await
    }

    async fn is_available(&self) -> bool {
        index::is_available(&self.parts.target).await
    }

    fn ordering(&self) -> Ordering {
        let ElasticTarget { format, options, .. } = &*self.parts.target;
        let is_guarded = match format.mapper.version() {
            None | Some(Version::Offset) => true,
            // Of several records with one version the last one counts.
            Some(_) => false,
        };
        let merges = format.action == BulkAction::Update;
        // The server forgets the version of a deleted document after a while.
        if merges || options.deletes || !is_guarded { Ordering::OneByOne } else { Ordering::Overlapping }
    }
}

impl SinkParts {
    /// Writes a batch and returns the outcome of each record.
    async fn deliver(&self, batch: &[Record]) -> Vec<Outcome> {
        let now = jiff::Timestamp::now().as_millisecond();
        let batch = self.target.format.parse(batch);
        if let Some(outcome) = self.lookup.first_look(&batch).await {
            return vec![outcome; batch.len()];
        }
        // A good record gets its outcome below.
        let outcome = |place| batch.get(place).map_or_else(|reason| Outcome::Reject(reason.clone()), |_| Outcome::Delivered);
        let mut outcomes: Vec<Outcome> = (0..batch.len()).map(outcome).collect();
        if self.target.format.action == BulkAction::Update {
            for (place, outcome) in merge(&self.target, &self.writer, &self.lookup, &batch, now).await {
                outcomes[place] = outcome;
            }
        } else {
            self.write(&batch, now, &mut outcomes).await;
        }
        outcomes
    }

    async fn write(&self, batch: &DocumentBatch<'_>, now: i64, outcomes: &mut [Outcome]) {
        let format = &self.target.format;
        let bytes = format.lines(batch, now, self.writer.buffer());
        let actions: Vec<BulkAction> = batch.good().map(|(_, document)| format.action(&document)).collect();
        let items = match self.writer.send(bytes, &actions).await {
            Ok(items) => items,
            Err(outcome) => return batch.good().for_each(|(place, _)| outcomes[place] = outcome.clone()),
        };
        let mut conflicts = Vec::new();
        for (((place, _), action), (verdict, _)) in batch.good().zip(actions).zip(items) {
            match verdict {
                ItemVerdict::Outcome(outcome) => outcomes[place] = outcome,
                ItemVerdict::Conflict { index } => conflicts.push(IdConflict { place, action, index }),
            }
        }
        self.lookup.resolve(batch, &conflicts, outcomes).await;
        if format.mapper.version().is_some() {
            supersede_stale_retries(batch, outcomes);
        }
    }
}

/// Supersedes a record that would be sent again although a record of its id behind it is delivered and not older: it would overwrite
/// that one, or come back after a delete whose version the server has forgotten.
fn supersede_stale_retries(batch: &DocumentBatch<'_>, outcomes: &mut [Outcome]) {
    let is_open = |outcome: &Outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Unclear(_));
    if !outcomes.iter().any(is_open) {
        return;
    }
    let mut newest: HashMap<(&str, [&str; 2]), i64> = HashMap::new();
    for place in (0..batch.len()).rev() {
        let Ok(document) = batch.get(place) else { continue };
        let version = document.version.expect("an id that can repeat has a version");
        let newest = newest.entry((document.id, document.names)).or_insert(i64::MIN);
        match &outcomes[place] {
            Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => *newest = version.max(*newest),
            outcome if is_open(outcome) && *newest >= version => outcomes[place] = Outcome::Superseded,
            _ => {}
        }
    }
}
