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

/// How the sink writes.
#[derive(Clone, Debug, Default)]
pub struct ElasticSinkOptions {
    /// How documents are written; by default as the ids require.
    pub op: Option<Op>,
    /// Whether the index is a data stream.
    pub data_stream: bool,
    /// The ingest pipeline.
    pub pipeline: Option<String>,
    /// Whether the second name of a document is its routing.
    pub routing: bool,
    /// Whether requests are compressed.
    pub compress: bool,
    /// The most requests in flight.
    pub in_flight: usize,
    /// Whether tombstones delete.
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
        Ok(Self { client, format, op, options, alias_routing: OnceLock::new(), keeps_sources: OnceLock::new() })
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
