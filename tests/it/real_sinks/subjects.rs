//! The tested sinks, each on its server, and another program that reads the stored documents.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use sdl::connectors::elastic::{ElasticClient, ElasticSink, ElasticSinkOptions as ElasticOptions, index_rule};
use sdl::connectors::kafka::{Admin, KafkaSink, ProducerOptions, TopicLimits};
use sdl::connectors::mongo::{MongoClient, MongoSink, collection_rule, database_rule};
use sdl::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
use sdl::pipeline::{ConnectorError, Sink};
use sdl::profile::{ElasticLogin, ElasticSection, KafkaSection, MongoSection, Secret};
use sdl::record::{Record, Topic};
use serde_json::{Value, json};

use crate::harness::{Cluster, MongoStub, all_well, failed, pymongo, read_with_kcat, stack, stack_env};
use crate::real_sink_es::{DISTURBED, Server};

const WAIT: Duration = Duration::from_secs(10);

/// A stored document or record.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored {
    /// The id of a document, the key of a record.
    pub(super) id: String,
    /// The number in its value.
    pub(super) n: i64,
    /// All of it.
    whole: String,
}

/// A sink, and the server behind it.
pub(super) trait Subject {
    /// The sink.
    type Sink: Sink;
    /// Opens the sink on a topic, a collection, an index.
    async fn open(&self, place: &str, ids: Ids, deletes: bool) -> Self::Sink;
    /// Opens the sink with a wrong password, which must not come to a run.
    async fn refused(&self, password: &str) -> ConnectorError;
    /// Returns the stored documents, in order of their ids.
    fn stored(&self, place: &str) -> Vec<Stored>;
    /// Stops, kills, freezes the server, or brings it back: a verb of `scripts/stack`.
    fn server(&self, verb: &str);
    /// Returns a value that this sink must never take.
    fn unfit(&self) -> Bytes {
        Bytes::from_static(b"{\"n\": ")
    }
}

/// A cluster of Kafka.
pub(super) struct Kafka(Cluster);

impl Kafka {
    pub(super) fn new() -> Self {
        Self(Cluster::at(stack_env("SDL_TEST_KAFKA").split(',').nth(1).expect("two clusters")))
    }

    fn sink(section: &KafkaSection, place: &str) -> Result<KafkaSink, ConnectorError> {
        let options = ProducerOptions { compression: "none".to_owned(), linger: Duration::from_millis(5), keep_timestamps: true };
        let topic = Topic::named(place);
        let facts = TopicLimits::default();
        let targets = Arc::new(RwLock::new(HashMap::from([(topic, facts)])));
        KafkaSink::open(section, &options, targets, Box::new(move |_: &Record| (topic, None)))
    }
}

impl Subject for Kafka {
    type Sink = KafkaSink;

    async fn open(&self, place: &str, _: Ids, _: bool) -> KafkaSink {
        tokio::task::block_in_place(|| self.0.create_topic(place, 3, &[]));
        let section = KafkaSection { name: "kafka".to_owned(), servers: self.0.servers.clone(), ..KafkaSection::default() };
        Self::sink(&section, place).expect("a producer")
    }

    async fn refused(&self, password: &str) -> ConnectorError {
        let section = KafkaSection {
            name: "kafka".to_owned(),
            servers: stack_env("SDL_TEST_KAFKA_SASL_PLAINTEXT"),
            username: Some(stack_env("SDL_TEST_USERNAME")),
            password: Some(Secret::new(password.to_owned())),
            ..KafkaSection::default()
        };
        // What every command does before it opens the sink.
        Admin::connect(&section, WAIT).await.err().expect("a wrong password")
    }

    fn stored(&self, place: &str) -> Vec<Stored> {
        let stored = |content: &crate::harness::Content| Stored {
            id: String::from_utf8(content.key.clone().expect("a key")).expect("a key of text"),
            n: number(&serde_json::from_slice(content.value.as_deref().expect("a value")).expect("a value of JSON")),
            whole: format!("{content:?}"),
        };
        sorted(read_with_kcat(&self.0, place).iter().map(|seen| stored(&seen.content)))
    }

    fn server(&self, verb: &str) {
        stack(&[verb, "kafka-2"]);
    }

    fn unfit(&self) -> Bytes {
        vec![b'x'; 1_200_000].into()
    }
}

/// A server of MongoDB's protocol.
pub(super) struct Mongo {
    name: &'static str,
    uri: String,
}

impl Mongo {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, uri: stack_env(&format!("SDL_TEST_{}", name.to_uppercase().replace('-', "_"))) }
    }

    fn section(uri: &str) -> MongoSection {
        MongoSection { name: "mongodb".to_owned(), uri: Some(Secret::new(uri.to_owned())), ..MongoSection::default() }
    }
}

impl Subject for Mongo {
    type Sink = MongoSink;

    async fn open(&self, place: &str, ids: Ids, deletes: bool) -> MongoSink {
        let naming = |name: &str, rule| NameTemplate::new(name.parse().expect("a template"), rule, 10).expect("a name");
        let names = vec![naming("sinks", database_rule), naming(place, collection_rule)];
        let reading = DocumentMapper::new(ids, Version::Offset, MetadataFields::default(), RawValues::Bad, None, names);
        let client = MongoClient::connect(&Self::section(&self.uri), 4, WAIT).await.expect("the server is there");
        MongoSink::new(client, reading, None, deletes).expect("settings that fit")
    }

    /// Neither server knows passwords: this one knows only wrong ones.
    async fn refused(&self, password: &str) -> ConnectorError {
        let stub = MongoStub::start(|command| if command.contains_key("saslStart") { failed(18) } else { all_well(command) });
        let uri = stub.uri().replace("mongodb://", &format!("mongodb://loader:{password}@"));
        MongoClient::connect(&Self::section(&uri), 4, WAIT).await.expect_err("a wrong password")
    }

    fn stored(&self, place: &str) -> Vec<Stored> {
        let code = "answer = [[d['_id'], d['n'], repr(d)] for d in client.sinks[arg].find()]";
        let found: Vec<(String, i64, String)> = serde_json::from_value(pymongo(&self.uri, &json!(place), code)).expect("rows");
        sorted(found.into_iter().map(|(id, n, whole)| Stored { id, n, whole }))
    }

    fn server(&self, verb: &str) {
        stack(&[verb, self.name]);
    }
}

/// An OpenSearch or Elasticsearch.
pub(super) struct Elastic {
    server: Server,
    /// Held for a server that other tests disturb, one at a time.
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Elastic {
    pub(super) fn new(name: &'static str) -> Self {
        let alone = name.ends_with("-small").then(|| DISTURBED.lock().unwrap_or_else(PoisonError::into_inner));
        Self { server: Server::new(name), _alone: alone }
    }

    fn section(&self, login: ElasticLogin) -> ElasticSection {
        let ca_file = self.server.url.starts_with("https:").then(|| format!("{}/ca.pem", stack_env("SDL_TEST_TLS")));
        ElasticSection {
            name: "search".to_owned(),
            urls: vec![self.server.url.clone()],
            login,
            ca_file,
            ..ElasticSection::default()
        }
    }
}

impl Subject for Elastic {
    type Sink = ElasticSink;

    async fn open(&self, place: &str, ids: Ids, deletes: bool) -> ElasticSink {
        if self.server.name.ends_with("-small") {
            let index = json!({"settings": {"number_of_shards": 8}});
            self.server.ask("PUT", &format!("/{place}"), &index); // the second time it is there
        }
        let naming = NameTemplate::new(place.parse().expect("a template"), index_rule, 10).expect("a name");
        let reading = DocumentMapper::new(ids, Version::Offset, MetadataFields::default(), RawValues::Bad, None, vec![naming]);
        let client = ElasticClient::connect(&self.section(ElasticLogin::None), WAIT).await.expect("the server is there");
        let options = ElasticOptions { in_flight: 4, deletes, ..ElasticOptions::default() };
        ElasticSink::new(client, reading, options).expect("settings that fit")
    }

    async fn refused(&self, password: &str) -> ConnectorError {
        let login = ElasticLogin::Basic { username: "elastic".to_owned(), password: Secret::new(password.to_owned()) };
        ElasticClient::connect(&self.section(login), WAIT).await.err().expect("a wrong password")
    }

    fn stored(&self, place: &str) -> Vec<Stored> {
        let text = |document: &Value| document["_id"].as_str().expect("an id").to_owned();
        let found = self.server.documents(place, &json!({"match_all": {}}));
        sorted(found.iter().map(|document| Stored {
            id: text(document),
            n: number(&document["_source"]),
            whole: document["_source"].to_string(),
        }))
    }

    fn server(&self, verb: &str) {
        stack(&[verb, self.server.name]);
    }
}

fn number(value: &Value) -> i64 {
    value["n"].as_i64().expect("a number")
}

fn sorted(stored: impl Iterator<Item = Stored>) -> Vec<Stored> {
    let mut all: Vec<_> = stored.collect();
    all.sort_unstable();
    all
}
