//! The targets and their content, read by programs that share no code with the project.

use serde_json::{Value, json};

use super::scenario::Command;
use crate::harness::{Clusters, pymongo, stack, stack_env};
use crate::real_sink_es::Server;

/// The destination of a run, other than a topic.
pub(super) enum Target {
    Topic,
    Mongo { uri: String },
    Search { server: Server },
}

/// A document, as far as the oracle looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) id: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) n: i64,
}

impl Target {
    pub(super) fn new(command: Command) -> Self {
        match command {
            Command::Replicate => Self::Topic,
            Command::SinkMongo => Self::Mongo { uri: stack_env("SDL_TEST_MONGO_JAVA") },
            Command::SinkEs => Self::Search { server: Server::new("opensearch") },
        }
    }

    /// Returns the profile's section of the destination.
    pub(super) fn section(&self) -> String {
        match self {
            Self::Topic => String::new(),
            Self::Mongo { uri } => format!("[mongodb]\nuri = {uri}\ndefault_database = torture\n"),
            Self::Search { server } => format!("[search]\ntype = opensearch\nurl = {}\n", server.url),
        }
    }

    /// Returns the command and its target for a topic.
    pub(super) fn arguments(&self, topic: &str) -> String {
        match self {
            Self::Topic => format!("replicate {topic}"),
            Self::Mongo { .. } => format!("sink-mongo {topic} --collection {topic}"),
            Self::Search { .. } => format!("sink-es {topic} --target search --index {topic}"),
        }
    }

    /// Freezes (`freeze`), thaws, stops, kills or starts the server.
    pub(super) fn server(&self, clusters: &Clusters, verb: &str) {
        match self {
            Self::Topic => clusters.target.server(verb),
            Self::Mongo { .. } => drop(stack(&[verb, "mongo-java"])),
            Self::Search { server } => drop(stack(&[verb, server.name])),
        }
    }

    /// Returns all documents of a topic.
    pub(super) fn documents(&self, topic: &str) -> Vec<Document> {
        let found: Vec<Value> = match self {
            Self::Topic => panic!("a topic has no documents"),
            Self::Mongo { uri } => {
                let code = "
fields = ('_id', '_kafka_topic', '_kafka_partition', '_kafka_offset', 'n')
answer = [{f: d.get(f) for f in fields} for d in client['torture'][arg].find({}, dict.fromkeys(fields, 1))]";
                pymongo(uri, &json!(topic), code).as_array().expect("a list").clone()
            }
            Self::Search { server } => {
                server.ask("POST", &format!("/{topic}/_refresh"), &Value::Null);
                let whole = json!({"size": 10_000, "query": {"match_all": {}}, "_source": ["_kafka*", "n"]});
                let answer = server.ask("POST", &format!("/{topic}/_search"), &whole);
                let hits = answer["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{answer}"));
                let flat = |hit: &Value| {
                    let mut document = hit["_source"].clone();
                    document["_id"] = hit["_id"].clone();
                    document
                };
                hits.iter().map(flat).collect()
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned();
        let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"));
        found
            .iter()
            .map(|found| Document {
                id: text(&found["_id"]),
                topic: text(&found["_kafka_topic"]),
                partition: i32::try_from(number(&found["_kafka_partition"])).expect("a partition"),
                offset: number(&found["_kafka_offset"]),
                n: number(&found["n"]),
            })
            .collect()
    }

    /// Deletes the output of a scenario.
    pub(super) fn clean(&self, topic: &str) {
        match self {
            Self::Topic => {}
            Self::Mongo { uri } => drop(pymongo(uri, &json!(topic), "client['torture'][arg].drop()")),
            Self::Search { server } => drop(server.ask("DELETE", &format!("/{topic}"), &Value::Null)),
        }
    }
}
