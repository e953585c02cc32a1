//! Records into MongoDB: written in bulks, acknowledged by a majority, and answered one by one.

use std::sync::Arc;

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::bulk_writer::MongoBulkWriter;
use crate::connectors::mongo::client::COMMAND_TIMEOUT;
use crate::connectors::mongo::identity::CollectionIdentity;
use crate::connectors::mongo::lookup::MongoLookup;
use crate::connectors::mongo::target::{InvalidMongoOptions, MongoTarget, Write};
use crate::document::DocumentMapper;
use crate::pipeline::{Answers, Batch, ConnectorError, Ordering, Sink, answers_from_task};

/// A MongoDB server as a destination.
pub struct MongoSink {
    target: Arc<MongoTarget>,
    writer: Arc<MongoBulkWriter>,
}

impl MongoSink {
    /// Returns a sink for the documents of `mapper`, whose two names are the database and the collection. With `deletes`, a tombstone
    /// deletes.
    ///
    /// # Errors
    /// As [`Write::choose`].
    pub fn new(
        client: MongoClient,
        mapper: DocumentMapper,
        write: Option<Write>,
        deletes: bool,
    ) -> Result<Self, InvalidMongoOptions> {
        let write = Write::choose(write, &mapper)?;
        let target = Arc::new(MongoTarget { client, mapper, write, deletes });
        let writer = MongoBulkWriter::new(Arc::clone(&target), MongoLookup::new(Arc::clone(&target)));
        Ok(Self { target, writer: Arc::new(writer) })
    }

    /// Returns the collection that is written to, if it does not exist and its name does not depend on records.
    ///
    /// # Errors
    /// When the server does not list its collections.
    pub async fn missing(&self) -> Result<Option<String>, ConnectorError> {
        let MongoTarget { client, mapper, .. } = &*self.target;
        let [database, collection] = mapper.templates() else { unreachable!("a sink is made with two names") };
        let (Some(database), Some(collection)) = (database.pattern().constant(), collection.pattern().constant()) else {
            return Ok(None);
        };
        Ok((!client.has(database, collection).await?).then(|| format!("{database}.{collection}")))
    }

    /// Returns what tells whether the collection is still the one that was written to; nothing for names that depend on records.
    #[must_use]
    pub fn identity(&self) -> Option<CollectionIdentity> {
        CollectionIdentity::of(&self.target)
    }

    /// Returns the lines of the plan: destination, write mode, and what the run would create.
    ///
    /// # Errors
    /// When the server does not list its collections.
    pub async fn plan(&self) -> Result<Vec<String>, ConnectorError> {
        let MongoTarget { client, mapper, write, deletes } = &*self.target;
        let [database, collection] = mapper.templates() else { unreachable!("a sink is made with two names") };
        let (database, collection) = (database.pattern(), collection.pattern());
        let how = match (write, deletes) {
            (Write::Insert, _) => "insert",
            (Write::Replace, false) => "replace by newer versions",
            (Write::Replace, true) => "replace by newer versions, delete by tombstones",
            (Write::Update, false) => "update by newer versions",
            (Write::Update, true) => "update by newer versions, delete by tombstones",
        };
        let mut lines = vec![format!("writes to {database}.{collection} of {} ({how})", client.name())];
        if let Some(name) = self.missing().await? {
            lines.push(format!("{name} does not exist: the first document creates it"));
        }
        Ok(lines)
    }
}

impl Sink for MongoSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let writer = Arc::clone(&self.writer);
        Ok(answers_from_task(tokio::spawn(async move { writer.deliver(&batch).await })))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let names: Vec<_> = self.target.mapper.templates().iter().map(|template| template.pattern().constant()).collect();
        // Names that depend on records are not known before.
        let [Some(database), Some(collection)] = names.as_slice() else { return Ok(()) };
        let client = &self.target.client;
        client.probe(database, collection).await.map_err(|error| client.not_writable(database, collection, &error).into())
    }

    async fn is_available(&self) -> bool {
        let client = &self.target.client;
        match self.target.mapper.templates().iter().map(|template| template.pattern().constant()).collect::<Vec<_>>()[..] {
            [Some(database), Some(collection)] => client.probe(database, collection).await.is_ok(),
            _ => client.ping(COMMAND_TIMEOUT).await.is_ok(),
        }
    }

    fn ordering(&self) -> Ordering {
        if self.target.is_ordered() { Ordering::OneByOne } else { Ordering::Overlapping }
    }
}
