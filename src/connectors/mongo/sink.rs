//! Records into MongoDB: written in bulks, acknowledged by a majority, and answered one by one.

use std::sync::{Arc, Mutex};

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::writing::Writing;
use crate::document::Patience;
use crate::document::{Ids, Reading};
use crate::pipeline::{Answers, Batch, EndError, Ordering, Outcome, Sink};

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

/// Settings that do not go together: what is wrong, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong.
    pub what: String,
    /// What to type instead.
    pub hint: String,
}

/// A MongoDB server as a destination.
pub struct MongoSink {
    writing: Arc<Writing>,
}

impl MongoSink {
    /// Returns a sink that writes what `reading` reads; its two names are the database's and the collection's. Documents whose ids
    /// come once are inserted, others replaced, unless `write` says otherwise. With `deletes`, a tombstone deletes.
    ///
    /// # Errors
    /// When the way of writing does not go with the ids or the metadata.
    pub fn new(client: MongoClient, reading: Reading, write: Option<Write>, deletes: bool) -> Result<Self, Unfit> {
        let unfit = |what: &str, hint: &str| Err(Unfit { what: what.to_owned(), hint: hint.to_owned() });
        let repeat = reading.ids().repeat();
        let write = write.unwrap_or(if repeat { Write::Replace } else { Write::Insert });
        if write == Write::Insert && repeat {
            return unfit("ids that can come again cannot be inserted", "use --write replace or --write update");
        }
        if write != Write::Insert && *reading.ids() == Ids::Random {
            return unfit("documents with an id of their own have nothing to write over", "leave --write out");
        }
        if write != Write::Insert && reading.meta().names().is_none() {
            let what = "only their metadata tells whether a document may be written over";
            return unfit(what, "leave --no-meta out, or use --id offset without --write");
        }
        let patience = Mutex::new(Patience::default());
        Ok(Self { writing: Arc::new(Writing { client, reading, write, deletes, patience, met: tokio::sync::Mutex::default() }) })
    }

    /// Returns the lines of a plan: what is written where, and what would be created.
    ///
    /// # Errors
    /// When the server does not say what it has.
    pub async fn plan(&self) -> Result<Vec<String>, EndError> {
        let Writing { client, reading, write, deletes, .. } = &*self.writing;
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
    async fn submit(&self, batch: Batch) -> Result<Answers, EndError> {
        let writing = Arc::clone(&self.writing);
        let task = tokio::spawn(async move { writing.deliver(&batch).await });
        Ok(Box::pin(async move {
            match task.await {
                Ok(outcomes) => outcomes,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The program is ending.
                Err(_) => std::future::pending::<Vec<Outcome>>().await,
            }
        }))
    }

    async fn check(&self) -> Result<(), EndError> {
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
