//! Records into Elasticsearch or OpenSearch: sent in bulks, and answered one by one.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::Method;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::connectors::elastic::client::{Call, ElasticClient, RequestBody};
use crate::connectors::elastic::concurrency::{ConcurrencyLimit, Permit};
use crate::connectors::elastic::conflict_lookup::{ExistingDocument, LOOKED_UP};
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::request::{BulkFormat, BulkRequest};
use crate::connectors::elastic::response::{self, BulkAction, BulkItem, ItemVerdict};
use crate::document::{Document, DocumentMapper, Ids, InvalidOptions, PoisonDetector, Version};
use crate::pipeline::{Answers, Batch, ConnectorError, Ordering, Outcome, Reason, Sink, answers_from_task};
use crate::record::{Partition, Record};

/// How long a bulk request may take. The server itself gives up sooner, and then says why.
pub(super) const BULK: Duration = Duration::from_secs(60);
/// How long the server waits for what it needs, such as a shard.
const SERVER_WAITS: &str = "30s";

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Op {
    /// As new ones; one that is there already stays as it is
    Create,
    /// In the place of older versions, or as new ones
    Index,
    /// Field by field into older versions; a document that is not there is a bad record
    Update,
    /// Field by field into older versions, or as new ones
    Upsert,
}

/// How the sink writes.
#[derive(Clone, Debug, Default)]
pub struct ElasticSinkOptions {
    /// How documents are written; as the ids ask for without.
    pub op: Option<Op>,
    /// Whether the index is a data stream.
    pub data_stream: bool,
    /// The ingest pipeline.
    pub pipeline: Option<String>,
    /// Whether the second name of the reading is the routing.
    pub routing: bool,
    /// Whether requests are compressed.
    pub compress: bool,
    /// Requests in flight at most.
    pub in_flight: usize,
    /// Whether tombstones delete.
    pub deletes: bool,
}

impl ElasticSinkOptions {
    /// Returns how documents that `reading` reads are written: those whose ids come once are created, others replaced, unless
    /// `op` says otherwise.
    ///
    /// # Errors
    /// When that does not go with the ids or the metadata.
    pub fn choose_op(&self, reading: &DocumentMapper) -> Result<Op, InvalidOptions> {
        let repeat = reading.ids().repeat();
        let op = self.op.unwrap_or(if repeat { Op::Index } else { Op::Create });
        let merges = matches!(op, Op::Update | Op::Upsert);
        if op == Op::Create && repeat {
            return Err(InvalidOptions::new("ids that can come again cannot be created", "use --op index, update or upsert"));
        }
        if merges && !repeat {
            let what = "ids that come once have nothing to be merged with";
            return Err(InvalidOptions::new(what, "use --id key or field:PATH, or leave --op out"));
        }
        if merges && reading.meta().names().is_none() {
            let what = "only their metadata tells whether a document may be written over";
            return Err(InvalidOptions::new(what, "leave --no-meta out, or use --op index"));
        }
        if self.data_stream && op != Op::Create {
            return Err(InvalidOptions::new(
                "a data stream only takes new documents",
                "use --id offset or uuid, and leave --op out",
            ));
        }
        Ok(op)
    }
}

/// A cluster as a destination.
pub struct ElasticSink {
    desk: Arc<BulkWriter>,
}

/// What all requests share.
pub(super) struct BulkWriter {
    pub(super) client: ElasticClient,
    pub(super) writing: BulkFormat,
    pub(super) op: Op,
    pub(super) options: ElasticSinkOptions,
    /// Where documents are sent.
    path: String,
    window: Arc<ConcurrencyLimit>,
    patience: Mutex<PoisonDetector>,
    /// The partitions whose first records have been looked up.
    pub(super) met: tokio::sync::Mutex<HashSet<Partition>>,
    /// Memory of bodies that were sent, for those to come: fresh memory costs more than what is written into it.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl ElasticSink {
    /// Returns a sink that writes what `reading` reads; its first name is the index.
    ///
    /// # Errors
    /// As [`ElasticSinkOptions::choose_op`].
    pub fn new(client: ElasticClient, reading: DocumentMapper, options: ElasticSinkOptions) -> Result<Self, InvalidOptions> {
        let op = options.choose_op(&reading)?;
        let action = match op {
            Op::Create if *reading.ids() == Ids::Random && !options.data_stream => BulkAction::Index,
            Op::Create => BulkAction::Create,
            Op::Index => BulkAction::Index,
            Op::Update | Op::Upsert => BulkAction::Update,
        };
        let has_time = reading.meta().names().is_some() || reading.time_field().is_some() || options.data_stream;
        let path = reading.namings()[0].template().constant().map_or_else(String::new, |index| format!("/{}", in_path(index)));
        let desk = BulkWriter {
            client,
            writing: BulkFormat::new(reading, action, options.routing, has_time),
            op,
            path: format!("{path}/_bulk"),
            window: Arc::new(ConcurrencyLimit::new(options.in_flight)),
            options,
            patience: Mutex::default(),
            met: tokio::sync::Mutex::default(),
            spare: Mutex::default(),
        };
        Ok(Self { desk: Arc::new(desk) })
    }

    pub(super) fn desk(&self) -> &BulkWriter {
        &self.desk
    }
}

impl Sink for ElasticSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let desk = Arc::clone(&self.desk);
        let permit = desk.window.enter().await;
        let task = tokio::spawn(async move { desk.deliver(&batch, &permit).await });
        Ok(answers_from_task(task))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        self.desk.probe().await
    }

    fn ordering(&self) -> Ordering {
        let desk = &self.desk;
        let is_guarded = match desk.writing.reading.version() {
            None | Some(Version::Offset) => true,
            // Of several records with one version the last one counts.
            Some(_) => false,
        };
        let merges = desk.writing.action == BulkAction::Update;
        // The server forgets the version of a document that was deleted a while ago.
        if merges || desk.options.deletes || !is_guarded { Ordering::OneByOne } else { Ordering::Overlapping }
    }
}

impl BulkWriter {
    /// Sends a batch and returns what became of each record.
    async fn deliver(&self, batch: &[Record], permit: &Permit) -> Vec<Outcome> {
        let outcomes = if self.writing.action == BulkAction::Update {
            self.merge(batch, permit).await
        } else {
            self.write(batch, permit).await
        };
        self.patience().settle(batch, &outcomes);
        outcomes
    }

    async fn write(&self, batch: &[Record], permit: &Permit) -> Vec<Outcome> {
        if let Some(outcome) = self.first_look(batch).await {
            return vec![outcome; batch.len()];
        }
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let BulkRequest { bytes, entries } = self.writing.body(batch, now(), spare);
        let actions: Vec<BulkAction> = entries.iter().filter_map(|entry| entry.as_ref().ok()).copied().collect();
        let mut said = Vec::with_capacity(actions.len());
        let answered = self.bulk(bytes, &actions, permit, |item, verdict| said.push((item.status, verdict))).await;
        let mut said = said.into_iter();
        let mut taken = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(batch.len());
        for (at, entry) in entries.into_iter().enumerate() {
            let outcome = match (entry, &answered) {
                (Err(reason), _) => Outcome::Reject(reason),
                (Ok(_), Err(outcome)) => outcome.clone(),
                (Ok(action), Ok(())) => match said.next().expect("each document is answered for").1 {
                    ItemVerdict::Outcome(outcome) => outcome,
                    ItemVerdict::Unknown(reason) => self.patience().judge(&batch[at], reason),
                    ItemVerdict::Taken { index } => {
                        taken.push(ExistingDocument { at, action, index });
                        Outcome::Delivered // until it is looked up
                    }
                },
            };
            outcomes.push(outcome);
        }
        for taken in taken.chunks(LOOKED_UP) {
            self.look_up(batch, taken, &mut outcomes).await;
        }
        if self.writing.reading.version().is_some() {
            self.supersede_stale_retries(batch, &mut outcomes);
        }
        outcomes
    }

    /// Takes a record that would be sent again for superseded if one of its id behind it is there, and is not older: it would
    /// write over that, or over nothing, once the server has forgotten the version of what was deleted.
    fn supersede_stale_retries(&self, batch: &[Record], outcomes: &mut [Outcome]) {
        if !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Unclear(_))) {
            return;
        }
        let mut newest: HashMap<(String, Vec<String>), i64> = HashMap::new();
        let mut document = Document::default();
        for (record, outcome) in batch.iter().zip(outcomes).rev() {
            if self.writing.read(record, &mut document).is_err() {
                continue;
            }
            let version = document.version.expect("an id that comes again has a version");
            let newest = newest.entry((document.id.clone(), document.names.clone())).or_insert(i64::MIN);
            match outcome {
                Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => *newest = version.max(*newest),
                Outcome::Retry(_) | Outcome::Unclear(_) if *newest >= version => *outcome = Outcome::Superseded,
                _ => {}
            }
        }
    }

    /// Sends a body and gives what is said of each document to `each`.
    ///
    /// # Errors
    /// When nothing is known of any of them: what that means for each.
    pub(super) async fn bulk(
        &self,
        bytes: Vec<u8>,
        actions: &[BulkAction],
        permit: &Permit,
        mut each: impl FnMut(&BulkItem<'_>, ItemVerdict),
    ) -> Result<(), Outcome> {
        if actions.is_empty() {
            return Ok(());
        }
        if self.client.server().longest.is_some_and(|longest| bytes.len() > longest) {
            return Err(response::whole(413, b""));
        }
        let body = Bytes::from(bytes);
        let payload = if self.options.compress { compressed(body.clone()).await? } else { RequestBody::Lines(body.clone()) };
        let filter = match self.writing.action {
            BulkAction::Update => "items.*.status,items.*.error,items.*.result,items.*._seq_no,items.*._primary_term",
            _ if self.options.deletes => "items.*.status,items.*.error,items.*.result",
            _ => "items.*.status,items.*.error,items.*.failure_store",
        };
        let pipeline = self.options.pipeline.as_deref().map(|name| ("pipeline", name));
        let query: Vec<_> = [("filter_path", filter), ("timeout", SERVER_WAITS)].into_iter().chain(pipeline).collect();
        let call = Call { method: Method::Post, path: &self.path, query: &query, body: Some(payload), deadline: BULK };
        let reply = self.client.call(call).await;
        self.take_back(body);
        let reply = reply.map_err(|lost| response::unanswered(&lost.summary(self.client.section())))?;
        if reply.status == 429 {
            permit.was_too_much();
        }
        if reply.status != 200 {
            return Err(response::whole(reply.status, &reply.body));
        }
        let answer = response::parse(&reply.body, actions.len()).map_err(Outcome::Retry)?;
        let piped = self.options.pipeline.is_some();
        for (item, action) in answer.items().zip(actions) {
            each(item, response::judge(*action, item, piped));
        }
        let was_too_much = answer.items().any(|item| item.status == 429);
        if was_too_much {
            permit.was_too_much();
        } else {
            permit.went_well();
        }
        Ok(())
    }

    pub(super) fn patience(&self) -> std::sync::MutexGuard<'_, PoisonDetector> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back(&self, body: Bytes) {
        if body.is_unique() {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < self.options.in_flight {
                spare.push(body.into());
            }
        }
    }
}

/// Returns the lines in gzip, made where it holds nobody up.
async fn compressed(lines: Bytes) -> Result<RequestBody, Outcome> {
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
        encoder.write_all(&lines).and_then(|()| encoder.finish())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(bytes)) => Ok(RequestBody::Gzip(bytes.into())),
        _ => Err(Outcome::Retry(Reason::new("not_compressed", "the request could not be compressed"))),
    }
}

/// Returns the present time, in milliseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
