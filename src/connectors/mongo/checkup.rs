//! What a server says of itself and of a collection: facts for an examination. Nothing here changes anything, except the round trip.

use std::time::Duration;

use mongodb::bson::{Bson as Value, Document, doc};

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::client::listed;
use crate::connectors::mongo::command_error::CommandError;
use crate::connectors::mongo::{diagnosis, response};
use crate::pipeline::{ConnectorError, Failure};

/// Deadline of a question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The code of a missing right.
const UNAUTHORIZED: i32 = 13;
/// The code of a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// How a server belongs to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MongoTopology {
    Standalone,
    /// A router of a sharded cluster.
    Router,
    /// A member of this replica set, which advertises these members that hold data, `host:port`.
    ReplicaSet {
        name: String,
        members: Vec<String>,
        has_primary: bool,
    },
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// The version; absent if the server does not tell.
    pub(crate) version: Option<String>,
    /// Absent if the server does not know the commands that tell.
    pub(crate) topology: Option<MongoTopology>,
    /// The time there and the time here, in milliseconds since the Unix epoch.
    pub(crate) times: Option<(i64, i64)>,
}

/// The kind of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CollectionKind {
    Missing,
    Collection,
    Capped,
    TimeSeries,
    View,
    Withheld(Withheld),
}

/// Why a server does not list what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// The user may not ask.
    Denied,
    UnknownCommand,
}

impl Withheld {
    fn of(error: &CommandError) -> Self {
        if error.is_unknown_command() { Self::UnknownCommand } else { Self::Denied }
    }
}

/// What is known of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CollectionFacts {
    pub(crate) kind: CollectionKind,
    /// Whether it rejects documents that do not fit its validator.
    pub(crate) has_validator: bool,
    /// The fields of each unique index but that of the ids.
    pub(crate) unique_indexes: Result<Vec<String>, Withheld>,
}

impl MongoClient {
    /// Returns what the server says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn server_facts(&self) -> Result<ServerFacts, ConnectorError> {
        let (greeting, here) = self.greeting().await?;
        let build = self.run("admin", &doc! {"buildInfo": 1}).await.unwrap_or_default();
        let told = greeting.as_ref().and_then(|greeting| greeting.get_datetime("localTime").ok());
        let times = told.map(|time| (time.timestamp_millis(), here));
        let version = build.get_str("version").ok().map(str::to_owned);
        Ok(ServerFacts { version, topology: greeting.as_ref().map(topology), times })
    }

    /// Returns what the server greets with, if it knows a command for it, and the time here at the middle of the request.
    async fn greeting(&self) -> Result<(Option<Document>, i64), ConnectorError> {
        let mut here = 0;
        // Servers before 4.4.2, and some that speak the protocol, know the older command only.
        for command in ["hello", "isMaster"] {
            let begun = jiff::Timestamp::now().as_millisecond();
            let greeting = self.run("admin", &doc! {command: 1}).await;
            here = i64::midpoint(begun, jiff::Timestamp::now().as_millisecond());
            match greeting {
                Ok(greeting) => return Ok((Some(greeting), here)),
                Err(error) if error.is_unknown_command() => {}
                Err(error) => return Err(self.failed("ask", &error).into()),
            }
        }
        Ok((None, here))
    }

    /// Returns what is known of a collection.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn collection_facts(&self, database: &str, collection: &str) -> Result<CollectionFacts, ConnectorError> {
        let (kind, has_validator) = match self.list(database, collection, false).await {
            Ok(reply) => match listed(&reply, collection) {
                Some((Some(found), _)) => (kind_of(found), has_validator(found)),
                Some((None, true)) => (CollectionKind::Missing, false),
                Some((None, false)) | None => (CollectionKind::Withheld(Withheld::Denied), false),
            },
            Err(CommandError::Command { code: UNAUTHORIZED, .. }) => (CollectionKind::Withheld(Withheld::Denied), false),
            Err(error) if error.is_unknown_command() => (CollectionKind::Withheld(Withheld::UnknownCommand), false),
            Err(error) => return Err(self.failed("list the collections of", &error).into()),
        };
        let unique_indexes = match kind {
            CollectionKind::Missing | CollectionKind::View | CollectionKind::TimeSeries => Ok(Vec::new()),
            _ => match self.run(database, &doc! {"listIndexes": collection}).await {
                Ok(reply) => Ok(unique_indexes(&reply)),
                Err(CommandError::Command { code: NAMESPACE_NOT_FOUND, .. }) => Ok(Vec::new()),
                Err(error @ CommandError::Command { .. }) => Err(Withheld::of(&error)),
                Err(error) => return Err(self.failed("list the indexes of", &error).into()),
            },
        };
        Ok(CollectionFacts { kind, has_validator, unique_indexes })
    }

    /// Proves that a majority acknowledges a write to the collection, and writes nothing.
    ///
    /// # Errors
    /// When it does not, in the words of the loads.
    pub(crate) async fn try_to_write(&self, database: &str, collection: &str) -> Result<(), ConnectorError> {
        self.probe(database, collection).await.map_err(|error| self.not_writable(database, collection, &error).into())
    }

    /// Writes a document with this id, reads it, and removes it, also when something fails. Returns whether nothing of it remains, too.
    pub(crate) async fn round_trip(&self, database: &str, collection: &str, id: &str) -> (Result<(), ConnectorError>, bool) {
        let concern = doc! {"w": "majority", "wtimeout": 20_000};
        let insert = doc! {"insert": collection, "documents": [{"_id": id}], "writeConcern": concern.clone()};
        let written = self.run(database, &insert).await;
        let refused = match &written {
            Ok(reply) => reply.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document()).is_some(),
            Err(CommandError::Command { .. } | CommandError::Unreachable(_) | CommandError::Login(_)) => true,
            // Without an answer, it may have been written.
            Err(_) => false,
        };
        let read = match &written {
            Ok(reply) => self.read_probe(database, collection, id, reply).await,
            Err(error) => Err(self.not_writable(database, collection, error).into()),
        };
        if refused {
            return (read, true);
        }
        let delete = doc! {"delete": collection, "deletes": [{"q": {"_id": id}, "limit": 1}], "writeConcern": concern};
        let deleted = self.run(database, &delete).await;
        (read, deleted.is_ok_and(|reply| reply.get_array("writeErrors").is_err()))
    }

    /// Reads the document of a round trip, unless the reply to its insert has an error.
    async fn read_probe(&self, database: &str, collection: &str, id: &str, inserted: &Document) -> Result<(), ConnectorError> {
        let error = inserted.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document());
        if let Some(error) = error.or_else(|| inserted.get_document("writeConcernError").ok()) {
            return Err(self.not_writable(database, collection, &response::error_named_in(error)).into());
        }
        let found = self.run(database, &doc! {"find": collection, "filter": {"_id": id}, "limit": 1}).await;
        let found = found.map_err(|error| self.failed("read from", &error))?;
        let batch = found.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        if batch.map_or(0, Vec::len) != 1 {
            let failure = Failure::new(format!("cannot read from `{database}.{collection}` of `{}`", self.name()));
            return Err(failure.because("the document that was written is not there").into());
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &CommandError) -> Failure {
        let diagnosed = diagnosis::diagnose(self.section(), error, QUESTION_TIMEOUT);
        Failure { what: format!("cannot {what} `{}`", self.name()), ..diagnosed }
    }
}

fn topology(hello: &Document) -> MongoTopology {
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return MongoTopology::Router;
    }
    let Ok(name) = hello.get_str("setName") else { return MongoTopology::Standalone };
    let hosts = hello.get_array("hosts").into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let is_primary = ["isWritablePrimary", "ismaster"].iter().any(|key| hello.get_bool(key).unwrap_or(false));
    let has_primary = is_primary || hello.contains_key("primary");
    MongoTopology::ReplicaSet { name: name.to_owned(), members: hosts.collect(), has_primary }
}

fn kind_of(found: &Document) -> CollectionKind {
    let is_capped = found.get_document("options").is_ok_and(|options| options.get_bool("capped").unwrap_or(false));
    match found.get_str("type") {
        Ok("view") => CollectionKind::View,
        Ok("timeseries") => CollectionKind::TimeSeries,
        _ if is_capped => CollectionKind::Capped,
        _ => CollectionKind::Collection,
    }
}

fn has_validator(found: &Document) -> bool {
    let Ok(options) = found.get_document("options") else { return false };
    let only_warns = options.get_str("validationAction").is_ok_and(|action| action == "warn");
    let is_off = options.get_str("validationLevel").is_ok_and(|level| level == "off");
    options.get_document("validator").is_ok_and(|validator| !validator.is_empty()) && !only_warns && !is_off
}

fn unique_indexes(reply: &Document) -> Vec<String> {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let indexes = batch.map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_document);
    let unique = indexes.filter(|index| index.get_bool("unique").unwrap_or(false));
    let fields = |index: &Document| index.get_document("key").map(|key| key.keys().cloned().collect::<Vec<_>>().join(", "));
    unique.filter_map(|index| fields(index).ok()).filter(|fields| fields != "_id").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_the_topology() {
        assert_eq!(topology(&doc! {"isWritablePrimary": true}), MongoTopology::Standalone);
        assert_eq!(topology(&doc! {"msg": "isdbgrid"}), MongoTopology::Router);
        let members = vec!["a:1".to_owned(), "b:2".to_owned()];
        let set = |has_primary| MongoTopology::ReplicaSet { name: "rs".to_owned(), members: members.clone(), has_primary };
        let greeting = doc! {"setName": "rs", "hosts": ["a:1", "b:2"], "isWritablePrimary": true};
        assert_eq!(topology(&greeting), set(true));
        let greeting = doc! {"setName": "rs", "hosts": ["a:1", "b:2"], "isWritablePrimary": false, "secondary": true};
        assert_eq!(topology(&greeting), set(false));
    }

    #[test]
    fn a_listing_tells_the_kind_of_a_collection() {
        for (listing, kind, validator) in [
            (doc! {"name": "c", "type": "collection"}, CollectionKind::Collection, false),
            (doc! {"name": "c", "type": "view", "options": {"viewOn": "x"}}, CollectionKind::View, false),
            (doc! {"name": "c", "type": "timeseries"}, CollectionKind::TimeSeries, false),
            (doc! {"name": "c", "type": "collection", "options": {"capped": true}}, CollectionKind::Capped, false),
            (doc! {"name": "c", "options": {"validator": {"a": 1}}}, CollectionKind::Collection, true),
            (
                doc! {"name": "c", "options": {"validator": {"a": 1}, "validationAction": "warn"}},
                CollectionKind::Collection,
                false,
            ),
        ] {
            assert_eq!((kind_of(&listing), has_validator(&listing)), (kind, validator), "{listing}");
        }
        let indexes = doc! {"cursor": {"firstBatch": [
            {"key": {"_id": 1}, "unique": true}, {"key": {"email": 1, "app": 1}, "unique": true}, {"key": {"x": 1}}
        ]}};
        assert_eq!(unique_indexes(&indexes), ["email, app"]);
    }
}
