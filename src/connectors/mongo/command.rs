//! Commands that write many documents, built as bytes. Pure.

use crate::connectors::mongo::bson::{Bson, OpenDocument};
use crate::pipeline::Reason;

/// How many bytes a command of several documents may have; one alone may have more, as much as a document may.
const FULL: usize = 16 << 20;
/// How many documents a command may have.
const MOST: usize = 100_000;

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    /// As new ones.
    Insert,
    /// In the place of older ones, or as new ones.
    Upsert,
    /// They go.
    Delete,
}

impl WriteKind {
    /// Returns the command, and what it calls its list.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Insert => ("insert", "documents"),
            Self::Upsert => ("update", "updates"),
            Self::Delete => ("delete", "deletes"),
        }
    }
}

/// A command that is being built: documents of one kind for one collection.
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

/// A command that is built.
pub(super) struct BuiltCommand {
    pub(super) kind: WriteKind,
    pub(super) database: String,
    pub(super) collection: String,
    pub(super) records: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl CommandBuilder {
    /// Returns an empty command with room for so many bytes.
    pub(super) fn new(kind: WriteKind, database: &str, collection: &str, room: usize) -> Self {
        let mut out = Bson::with_capacity(room);
        let command = out.begin();
        let (word, list) = kind.words();
        out.text(word, collection);
        // Without order, a document that fails does not keep those behind it from being written.
        out.boolean("ordered", false);
        let concern = out.begin_document("writeConcern");
        out.text("w", "majority");
        out.int32("wtimeout", 20_000);
        out.end(concern);
        let list = out.begin_array(list);
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Self { kind, database, collection, records: Vec::new(), out, command, list }
    }

    /// Returns whether documents of this kind and for this collection go in here.
    pub(super) fn takes(&self, kind: WriteKind, database: &str, collection: &str) -> bool {
        self.records.len() < MOST && self.kind == kind && self.database == database && self.collection == collection
    }

    /// Adds what `write` writes, for the record at place `record` of the batch; returns whether there was room for it.
    ///
    /// # Errors
    /// When the record is bad. The command is then as it was, as it is when there was no room.
    pub(super) fn push(&mut self, record: usize, write: impl FnOnce(&mut Bson) -> Result<(), Reason>) -> Result<bool, Reason> {
        let before = self.out.bytes.len();
        let begun = self.out.begin_item(self.records.len());
        if let Err(reason) = write(&mut self.out) {
            self.out.cut(before);
            return Err(reason);
        }
        self.out.end(begun);
        if self.out.bytes.len() > FULL && !self.records.is_empty() {
            self.out.cut(before);
            return Ok(false);
        }
        self.records.push(record);
        Ok(true)
    }

    /// Returns the command.
    pub(super) fn build(self) -> BuiltCommand {
        let Self { kind, database, collection, records, mut out, command, list } = self;
        out.end(list);
        out.end(command);
        BuiltCommand { kind, database, collection, records, bytes: out.bytes }
    }
}
