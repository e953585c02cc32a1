//! Bulk requests: sent, and answered document by document.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::Method;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::connectors::elastic::client::{Request, RequestBody};
use crate::connectors::elastic::lenient_json;
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::response::{self, BulkAction, BulkResponse, ItemVerdict};
use crate::connectors::elastic::target::ElasticTarget;
use crate::pipeline::{Outcome, Reason};

/// The timeout of a bulk request: longer than the server's own, whose error names the cause.
pub(super) const BULK_TIMEOUT: Duration = Duration::from_secs(60);
/// The server's own timeout, such as for an unavailable shard.
const SERVER_TIMEOUT: &str = "30s";

/// The verdict on one document, and its sequence number and primary term if it was merged.
pub(super) type Item = (ItemVerdict, Option<(i64, i64)>);

pub(super) struct ElasticBulkWriter {
    target: Arc<ElasticTarget>,
    path: String,
    /// Buffers of earlier requests, for reuse: fresh memory costs more than filling it.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl ElasticBulkWriter {
    pub(super) fn new(target: Arc<ElasticTarget>) -> Self {
        let index = target.index().map_or_else(String::new, |index| format!("/{}", in_path(index)));
        Self { target, path: format!("{index}/_bulk"), spare: Mutex::default() }
    }

    /// Returns a buffer for a request.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Sends a request of these actions and returns a verdict on each.
    ///
    /// # Errors
    /// When no document has an answer of its own: the outcome of each.
    pub(super) async fn send(&self, bytes: Vec<u8>, actions: &[BulkAction]) -> Result<Vec<Item>, Outcome> {
        if actions.is_empty() {
            return Ok(Vec::new());
        }
        let ElasticTarget { client, format, options, .. } = &*self.target;
        if client.server().longest.is_some_and(|longest| bytes.len() > longest) {
            return Err(response::whole(413, b""));
        }
        let body = Bytes::from(bytes);
        let payload = if options.compress { compress(body.clone()).await? } else { RequestBody::Lines(body.clone()) };
        let filter = match format.action {
            BulkAction::Update => "items.*.status,items.*.error,items.*.result,items.*._seq_no,items.*._primary_term",
            BulkAction::Index => "items.*.status,items.*.error,items.*.result,items.*.failure_store",
            _ if options.deletes => "items.*.status,items.*.error,items.*.result",
            _ => "items.*.status,items.*.error,items.*.failure_store",
        };
        let pipeline = options.pipeline.as_deref().map(|name| ("pipeline", name));
        let fixed = [("filter_path", filter), ("timeout", SERVER_TIMEOUT)].into_iter();
        let query: Vec<_> = fixed.chain(pipeline).chain(self.target.alias_guard()).collect();
        let call = Request { method: Method::Post, path: &self.path, query: &query, body: Some(payload), deadline: BULK_TIMEOUT };
        let reply = client.call(call).await;
        self.recycle(body);
        let reply = reply.map_err(|error| response::unanswered(&error, client.section()))?;
        if reply.status != 200 {
            return Err(response::whole(reply.status, &reply.body));
        }
        let is_piped = options.pipeline.is_some();
        let judge = |answer: BulkResponse<'_>| {
            answer.items().zip(actions).map(|(item, action)| (response::judge(*action, item, is_piped), item.place)).collect()
        };
        response::parse(&reply.body, actions.len())
            .map(judge)
            .or_else(|reason| response::parse(&lenient_json::repair(&reply.body), actions.len()).map(judge).map_err(|_| reason))
            .map_err(Outcome::Unclear)
    }

    fn recycle(&self, body: Bytes) {
        if let Ok(buffer) = body.try_into_mut() {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < self.target.options.in_flight {
                spare.push(buffer.into());
            }
        }
    }
}

/// Compresses on the blocking pool.
async fn compress(lines: Bytes) -> Result<RequestBody, Outcome> {
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
        encoder.write_all(&lines).and_then(|()| encoder.finish())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(bytes)) => Ok(RequestBody::Gzip(bytes.into())),
        _ => Err(Outcome::Unclear(Reason::new("not_compressed", "the request could not be compressed"))),
    }
}
