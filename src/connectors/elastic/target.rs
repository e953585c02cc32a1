//! The destination of documents, and the write mode.

use std::sync::OnceLock;

use crate::connectors::elastic::client::ElasticClient;
use crate::connectors::elastic::request::BulkFormat;
use crate::connectors::elastic::response::BulkAction;
use crate::document::{DocumentMapper, Ids};

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Op {
    /// Create; an existing document is kept
    Create,
    /// Replace an older version, or create
    Index,
    /// Set the fields in an older version; a missing document makes the record bad
    Update,
    /// Set the fields in an older version, or create
    Upsert,
}

/// Settings of the writes that the ids and the metadata have to allow.
#[derive(Clone, Debug, Default)]
pub struct ElasticSinkOptions {
    /// How documents are written; by default as the ids require.
    pub op: Option<Op>,
    /// Whether the name is that of a data stream: documents are created, and get a time.
    pub data_stream: bool,
    /// The ingest pipeline that documents pass on the server.
    pub pipeline: Option<String>,
    /// Whether the second name of a document is its routing.
    pub routing: bool,
    /// Whether the bodies of bulk requests are in gzip.
    pub compress: bool,
    /// The most requests in flight.
    pub in_flight: usize,
    /// Whether a tombstone deletes the document with its id.
    pub deletes: bool,
}

/// Conflicting options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidElasticOptions {
    /// A document is created once, and its id comes again.
    #[error("ids that can repeat cannot be created")]
    CreateRepeatingIds,
    /// Nothing is there to merge with.
    #[error("ids that come once have no older version to merge with")]
    MergeUniqueIds,
    /// Only metadata shows whether a document may be overwritten.
    #[error("a merge needs the metadata of the stored document")]
    MergeWithoutMetadata,
    /// A data stream takes new documents alone.
    #[error("a data stream accepts new documents only")]
    DataStreamOp,
}

impl ElasticSinkOptions {
    /// Returns how documents are written: `op`, or else created if ids are unique, and replaced otherwise.
    ///
    /// # Errors
    /// When the write mode conflicts with the ids or the metadata.
    pub fn choose_op(&self, mapper: &DocumentMapper) -> Result<Op, InvalidElasticOptions> {
        let repeat = mapper.ids().can_repeat();
        let op = self.op.unwrap_or(if repeat { Op::Index } else { Op::Create });
        let merges = matches!(op, Op::Update | Op::Upsert);
        match () {
            () if op == Op::Create && repeat => Err(InvalidElasticOptions::CreateRepeatingIds),
            () if merges && !repeat => Err(InvalidElasticOptions::MergeUniqueIds),
            () if merges && mapper.meta().names().is_none() => Err(InvalidElasticOptions::MergeWithoutMetadata),
            () if self.data_stream && op != Op::Create => Err(InvalidElasticOptions::DataStreamOp),
            () => Ok(op),
        }
    }
}

/// A cluster, and the documents that are written to it.
pub(super) struct ElasticTarget {
    pub(super) client: ElasticClient,
    pub(super) format: BulkFormat,
    pub(super) op: Op,
    pub(super) options: ElasticSinkOptions,
    /// The routing of the alias that is written to, once it is known.
    pub(super) alias_routing: OnceLock<String>,
    /// Whether the name is that of an alias, once that is known.
    pub(super) is_alias: OnceLock<bool>,
    /// Whether the index stores sources as they are sent, once that is known.
    pub(super) keeps_sources: OnceLock<bool>,
}

impl ElasticTarget {
    pub(super) fn new(
        client: ElasticClient,
        mapper: DocumentMapper,
        options: ElasticSinkOptions,
    ) -> Result<Self, InvalidElasticOptions> {
        let op = options.choose_op(&mapper)?;
        let action = match op {
            Op::Create if *mapper.ids() == Ids::Random && !options.data_stream => BulkAction::Index,
            Op::Create => BulkAction::Create,
            Op::Index => BulkAction::Index,
            Op::Update | Op::Upsert => BulkAction::Update,
        };
        let has_time = mapper.meta().names().is_some() || mapper.time_field().is_some() || options.data_stream;
        let format = BulkFormat::new(mapper, action, options.routing, has_time);
        let (alias_routing, is_alias, keeps_sources) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Self { client, format, op, options, alias_routing, is_alias, keeps_sources })
    }

    /// Returns what keeps the server from creating an index in the place of an alias that was deleted.
    pub(super) fn alias_guard(&self) -> Option<(&'static str, &'static str)> {
        let is_guarded = self.is_alias.get() == Some(&true) && self.client.server().has_require_alias();
        is_guarded.then_some(("require_alias", "true"))
    }

    pub(super) fn alias_routing(&self) -> Option<&str> {
        self.alias_routing.get().map(String::as_str)
    }

    /// Returns whether a stored source can be compared with a sent one.
    pub(super) fn keeps_sources(&self) -> bool {
        self.options.pipeline.is_none() && self.keeps_sources.get() == Some(&true)
    }

    /// Returns the name of the index, if it is the same for every record.
    pub(super) fn index(&self) -> Option<&str> {
        self.format.mapper.templates()[0].pattern().constant()
    }
}
