//! Records into MongoDB: written in bulks, acknowledged by a majority, and answered one by one.

use std::sync::{Arc, Mutex};

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::bulk_writer::BulkWriter;
use crate::document::PoisonDetector;
use crate::document::{DocumentMapper, Ids, InvalidOptions};
use crate::pipeline::{Answers, Batch, ConnectorError, Ordering, Sink, answers_from_task};

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Write {
    /// As a new one; one that is there already stays as it is
    Insert,
    /// In the place of an older version, or as a new one
    Replace,
    /// Field by field into an older version, or as a new one
    Update,
}

impl Write {
    /// Returns how documents that `reading` reads are written: those whose ids come once are inserted, others replaced, unless
    /// `asked` says otherwise.
    ///
    /// # Errors
    /// When that does not go with the ids or the metadata.
    pub fn choose(asked: Option<Self>, reading: &DocumentMapper) -> Result<Self, InvalidOptions> {
        let repeat = reading.ids().repeat();
        let write = asked.unwrap_or(if repeat { Self::Replace } else { Self::Insert });
        if write == Self::Insert && repeat {
            return Err(InvalidOptions::new(
                "ids that can come again cannot be inserted",
                "use --write replace or --write update",
            ));
        }
        if write != Self::Insert && *reading.ids() == Ids::Random {
            return Err(InvalidOptions::new("documents with an id of their own have nothing to write over", "leave --write out"));
        }
        if write != Self::Insert && reading.meta().names().is_none() {
            let what = "only their metadata tells whether a document may be written over";
            return Err(InvalidOptions::new(what, "leave --no-meta out, or use --id offset without --write"));
        }
        Ok(write)
    }
}

/// A MongoDB server as a destination.
pub struct MongoSink {
    writing: Arc<BulkWriter>,
}

impl MongoSink {
    /// Returns a sink that writes what `reading` reads; its two names are the database's and the collection's. With `deletes`, a
    /// tombstone deletes.
    ///
    /// # Errors
    /// As [`Write::choose`].
    pub fn new(
        client: MongoClient,
        reading: DocumentMapper,
        write: Option<Write>,
        deletes: bool,
    ) -> Result<Self, InvalidOptions> {
        let write = Write::choose(write, &reading)?;
        let patience = Mutex::new(PoisonDetector::default());
        Ok(Self {
            writing: Arc::new(BulkWriter { client, reading, write, deletes, patience, met: tokio::sync::Mutex::default() }),
        })
    }

    /// Returns the lines of a plan: what is written where, and what would be created.
    ///
    /// # Errors
    /// When the server does not say what it has.
    pub async fn plan(&self) -> Result<Vec<String>, ConnectorError> {
        let BulkWriter { client, reading, write, deletes, .. } = &*self.writing;
        let [database, collection] = reading.namings() else { unreachable!("a sink is made with two names") };
        let (database, collection) = (database.template(), collection.template());
        let how = match (write, deletes) {
            (Write::Insert, _) => "inserted",
            (Write::Replace, false) => "replaced by newer versions",
            (Write::Replace, true) => "replaced by newer versions, and deleted by tombstones",
            (Write::Update, false) => "updated by newer versions",
            (Write::Update, true) => "updated by newer versions, and deleted by tombstones",
        };
        let mut lines = vec![format!("{database}.{collection} of {}: documents are {how}", client.name())];
        if let (Some(database), Some(collection)) = (database.constant(), collection.constant())
            && !client.has(database, collection).await?
        {
            lines.push(format!("{database}.{collection} is not there: the first document creates it"));
        }
        Ok(lines)
    }
}

impl Sink for MongoSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let writing = Arc::clone(&self.writing);
        let task = tokio::spawn(async move { writing.deliver(&batch).await });
        Ok(answers_from_task(task))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let names: Vec<_> = self.writing.reading.namings().iter().map(|naming| naming.template().constant()).collect();
        // Names that records make are not known before.
        let [Some(database), Some(collection)] = names.as_slice() else { return Ok(()) };
        let client = &self.writing.client;
        client.probe(database, collection).await.map_err(|failure| client.not_writable(database, collection, &failure).into())
    }

    fn ordering(&self) -> Ordering {
        if self.writing.in_order() { Ordering::OneByOne } else { Ordering::Overlapping }
    }
}
