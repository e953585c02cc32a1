//! The destination of documents, and the write mode.

use crate::connectors::mongo::MongoClient;
use crate::document::{DocumentMapper, Ids};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Write {
    /// Insert; an existing document is kept
    Insert,
    /// Replace an older version, or insert
    Replace,
    /// Set the fields in an older version, or insert
    Update,
}

/// Conflicting options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMongoOptions {
    /// A document is inserted once, and its id comes again.
    #[error("ids that can repeat cannot be inserted")]
    InsertRepeatingIds,
    /// A new id has no stored document.
    #[error("documents with generated ids have nothing to write over")]
    OverwriteRandomIds,
    /// Only metadata shows whether a document may be overwritten.
    #[error("a write over a stored document needs its metadata")]
    OverwriteWithoutMetadata,
}

impl Write {
    /// Returns how documents are written: `asked`, or else inserted if ids are unique, and replaced otherwise.
    ///
    /// # Errors
    /// When the write mode conflicts with the ids or the metadata.
    pub fn choose(asked: Option<Self>, mapper: &DocumentMapper) -> Result<Self, InvalidMongoOptions> {
        let repeat = mapper.ids().can_repeat();
        let write = asked.unwrap_or(if repeat { Self::Replace } else { Self::Insert });
        match write {
            Self::Insert if repeat => Err(InvalidMongoOptions::InsertRepeatingIds),
            Self::Insert => Ok(write),
            _ if *mapper.ids() == Ids::Random => Err(InvalidMongoOptions::OverwriteRandomIds),
            _ if mapper.meta().names().is_none() => Err(InvalidMongoOptions::OverwriteWithoutMetadata),
            _ => Ok(write),
        }
    }
}

/// A server, and the documents that are written to it: their two names are the database and the collection.
pub(super) struct MongoTarget {
    pub(super) client: MongoClient,
    pub(super) mapper: DocumentMapper,
    pub(super) write: Write,
    /// Whether a tombstone deletes the document with its id.
    pub(super) deletes: bool,
}

impl MongoTarget {
    /// Returns whether the writes of a document have to be carried out in the order of their records. A version keeps an older write
    /// from overwriting a newer one; but nothing is left of a deleted document, and of fields that are set one by one, those of an older
    /// write are wanted too.
    pub(super) fn is_ordered(&self) -> bool {
        self.deletes || (self.write == Write::Update && self.mapper.ids().can_repeat())
    }

    /// Returns whether database and collection are the same for every record.
    pub(super) fn has_constant_names(&self) -> bool {
        self.mapper.templates().iter().all(|template| template.pattern().constant().is_some())
    }
}
