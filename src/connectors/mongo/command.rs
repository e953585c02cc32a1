//! Commands that write many documents, built as bytes. Pure.

use crate::connectors::mongo::bson::{Bson, OpenDocument};
use crate::pipeline::Reason;

/// The most bytes of a command with several documents; one alone may have as many as a document may.
const MAX_COMMAND_BYTES: usize = 16 << 20;
/// The most documents of a command.
const MAX_DOCUMENTS: usize = 100_000;

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    Insert,
    Upsert,
    Delete,
}

impl WriteKind {
    /// Returns the name of the command, and of its list.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Insert => ("insert", "documents"),
            Self::Upsert => ("update", "updates"),
            Self::Delete => ("delete", "deletes"),
        }
    }
}

/// Builds a command: documents of one kind for one collection.
pub(super) struct CommandBuilder {
    pub(super) kind: WriteKind,
    pub(super) database: String,
    pub(super) collection: String,
    /// For each document, the place of its record in the batch.
    pub(super) records: Vec<usize>,
    out: Bson,
    command: OpenDocument,
    list: OpenDocument,
}

pub(super) struct BuiltCommand {
    pub(super) kind: WriteKind,
    pub(super) database: String,
    pub(super) collection: String,
    pub(super) records: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl CommandBuilder {
    pub(super) fn new(kind: WriteKind, database: &str, collection: &str, capacity: usize) -> Self {
        let mut out = Bson::with_capacity(capacity);
        let command = out.begin();
        let (name, list) = kind.names();
        out.text(name, collection);
        // In an unordered command, a failed document does not stop those behind it.
        out.boolean("ordered", false);
        let concern = out.begin_document("writeConcern");
        out.text("w", "majority");
        out.int32("wtimeout", 20_000);
        out.end(concern);
        let list = out.begin_array(list);
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Self { kind, database, collection, records: Vec::new(), out, command, list }
    }

    /// Returns whether documents of this kind and collection belong here.
    pub(super) fn accepts(&self, kind: WriteKind, database: &str, collection: &str) -> bool {
        self.records.len() < MAX_DOCUMENTS && self.kind == kind && self.database == database && self.collection == collection
    }

    /// Adds what `write` writes for the record at place `record` of the batch; returns false, and leaves the command as it was, if it
    /// is full.
    ///
    /// # Errors
    /// When the record is bad: the command stays as it was.
    pub(super) fn push(&mut self, record: usize, write: impl FnOnce(&mut Bson) -> Result<(), Reason>) -> Result<bool, Reason> {
        let before = self.out.bytes.len();
        let begun = self.out.begin_item(self.records.len());
        if let Err(reason) = write(&mut self.out) {
            self.out.truncate(before);
            return Err(reason);
        }
        self.out.end(begun);
        if self.out.bytes.len() > MAX_COMMAND_BYTES && !self.records.is_empty() {
            self.out.truncate(before);
            return Ok(false);
        }
        self.records.push(record);
        Ok(true)
    }

    pub(super) fn build(self) -> BuiltCommand {
        let Self { kind, database, collection, records, mut out, command, list } = self;
        out.end(list);
        out.end(command);
        BuiltCommand { kind, database, collection, records, bytes: out.bytes }
    }
}
