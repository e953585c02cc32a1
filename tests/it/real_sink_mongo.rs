//! `sdl sink-mongo` from a real cluster into the servers of MongoDB's protocol that are to be had: each is right where the other
//! is not. Documents are counted with Python's client.

use serde_json::{Value, json};

use crate::harness::{Clusters, Finished, Running, Sdl, Sender, eventually, pymongo, setting, stack, stack_env, unique};

mod keys;
mod kills;
mod loads;
mod payloads;
mod refusals;

/// Right for inserts: data in files, duplicates with their index.
const FERRET: &str = "ferretdb";
/// Right for guarded upserts, deletes and unique indexes.
const JAVA: &str = "mongo-java";

/// A topic that is loaded into a collection.
struct Load {
    clusters: Clusters,
    server: String,
    /// Whether the server is this load's own.
    own: bool,
    uri: String,
    topic: String,
    group: String,
    partitions: i32,
    /// More lines of the source's section.
    settings: &'static str,
}

impl Load {
    #[track_caller]
    fn new(server: &'static str, name: &str, partitions: i32) -> Self {
        let uri = stack_env(&format!("SDL_TEST_{}", server.to_uppercase().replace('-', "_")));
        Self::at(server.to_owned(), false, uri, name, partitions)
    }

    /// Returns a load into a server of its own, with settings, that its test may kill or freeze.
    #[track_caller]
    fn own(kind: &str, name: &str, partitions: i32, settings: &[&str]) -> Self {
        let server = unique(&format!("{kind}-{name}"));
        let up = stack(&[&["up", &server], settings].concat());
        let uri = up.split_whitespace().last().expect("an address").to_owned();
        Self::at(server, true, uri, name, partitions)
    }

    #[track_caller]
    fn at(server: String, own: bool, uri: String, name: &str, partitions: i32) -> Self {
        let (clusters, topic) = (Clusters::shared(), unique(name));
        clusters.source.create_topic(&topic, partitions, &[("max.message.bytes", "20000000")]);
        Self { clusters, server, own, uri, group: topic.clone(), topic, partitions, settings: "" }
    }

    /// Removes members that are gone from the group after six seconds.
    fn with_short_session(mut self) -> Self {
        self.settings = "kafka.session.timeout.ms = 6000\nkafka.heartbeat.interval.ms = 500\n";
        self
    }

    fn profile(&self) -> String {
        format!(
            "[local_kafka]\nservers = {}\n{}\n[other_kafka]\nservers = {}\n\n[mongodb]\nuri = \
             {}\ndefault_database = loads\nconsumer_group_id = {}\n",
            self.clusters.source.servers, self.settings, self.clusters.target.servers, self.uri, self.group
        )
    }

    /// Returns `sdl sink-mongo` of this load, into a collection called like the topic.
    fn sdl(&self, flags: &str) -> Sdl {
        let collection = if flags.contains("--collection") { String::new() } else { format!("--collection {}", self.topic) };
        // A server that other tests keep busy may take its time.
        let wait = if flags.contains("--wait") { "" } else { "--wait 60s" };
        Sdl::new(&format!("sink-mongo {} {collection} {wait} {flags}", self.topic)).profile(&self.profile())
    }

    /// Runs to the ends that the topic has now and returns the run, which must succeed.
    #[track_caller]
    fn catch_up(&self, flags: &str) -> Value {
        let deadline = std::time::Duration::from_secs(setting("SDL_TEST_PATIENCE", 300));
        self.sdl(&format!("--until-caught-up -o json {flags}")).deadline(deadline).run().expect(0).json()
    }

    /// Fills the topic with made-up logins.
    #[track_caller]
    fn fake(&self, count: u64) {
        let line = format!("produce-fake {} -n {count} --seed 7", self.topic);
        Sdl::new(&line).profile(&self.profile()).run().expect(0);
    }

    /// Sends values, each with a key of its own unless one is given, to the partitions in turn.
    #[track_caller]
    fn send(&self, values: &[(Option<&str>, Option<&str>)]) {
        Sender::new(&self.clusters.source, &[("message.max.bytes", "20000000")]).send_values(
            &self.topic,
            self.partitions,
            values,
        );
    }

    /// Runs Python code that has this load's `collection`, and `arg`.
    #[track_caller]
    fn python(&self, arg: &Value, code: &str) -> Value {
        let arg = json!({"collection": self.topic, "arg": arg});
        pymongo(&self.uri, &arg, &format!("collection = client['loads'][arg['collection']]\narg = arg['arg']\n{code}"))
    }

    #[track_caller]
    fn count(&self) -> u64 {
        self.python(&Value::Null, "answer = collection.count_documents({})").as_u64().expect("a count")
    }

    /// Waits until this many records are committed.
    #[track_caller]
    fn until_committed(&self, running: &mut Running, count: u64) {
        eventually("documents arrive", std::time::Duration::from_secs(120), || {
            let is_running = running.is_running();
            let is_reached = self.committed().iter().sum::<i64>().cast_unsigned() >= count;
            assert!(is_reached || is_running, "it ended:\n{}", running.stderr());
            is_reached.then_some(())
        });
    }

    /// Freezes the server until the guard is dropped.
    #[must_use]
    fn freeze(&self) -> Frozen {
        stack(&["freeze", &self.server]);
        Frozen(self.server.clone())
    }

    /// Panics unless the collection holds one document for each record of the topic, under its id and with its place, and no more.
    #[track_caller]
    fn assert_each_once(&self) {
        assert_eq!(self.wrong(), json!([]));
    }

    /// Returns some of the documents that should not be as they are, and how many are missing.
    #[track_caller]
    fn wrong(&self) -> Value {
        let ends: Vec<i64> = self.clusters.source.offsets(&self.topic).into_iter().map(|(_, end)| end).collect();
        self.python(
            &json!({"topic": self.topic, "ends": ends}),
            "
seen = set(); answer = []
for d in collection.find({}):
    place = (d['_kafka_partition'], d['_kafka_offset'])
    ok = d['_id'] == '%s:%d:%d' % (arg['topic'], *place) and d['_kafka_topic'] == arg['topic']
    ok = ok and 0 <= place[1] < arg['ends'][place[0]] and isinstance(d['_processed_at'], datetime.datetime)
    if not ok or place in seen: answer.append(d)
    seen.add(place)
missing = sum(arg['ends']) - len(seen)
if missing: answer.append('%d are missing' % missing)
answer = answer[-5:]",
        )
    }

    /// Returns the committed offset of each partition, 0 where there is none.
    #[track_caller]
    fn committed(&self) -> Vec<i64> {
        self.clusters.source.committed(&self.group, &self.topic).into_iter().map(Option::unwrap_or_default).collect()
    }

    #[track_caller]
    fn assert_committed(&self) {
        let ends: Vec<i64> = self.clusters.source.offsets(&self.topic).into_iter().map(|(_, end)| end).collect();
        assert_eq!(self.committed(), ends);
    }
}

impl Drop for Load {
    /// Servers that keep everything in memory are not to be filled.
    fn drop(&mut self) {
        if self.own {
            stack(&["down", &self.server]);
        } else if !std::thread::panicking() {
            self.python(&Value::Null, "collection.drop()");
        }
    }
}

/// A server that does not answer.
struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        stack(&["thaw", &self.0]);
    }
}

/// Returns the lines of a file of dead letters.
#[track_caller]
fn letters(finished: &Finished, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(finished.path(name)).expect("there are dead letters");
    text.lines().map(|line| serde_json::from_str(line).expect("a letter is a line of JSON")).collect()
}

/// Returns a header of a dead letter, if it has it.
fn header(letter: &Value, name: &str) -> Option<String> {
    let headers = letter["headers"].as_array().expect("a letter has headers");
    let at = headers.iter().position(|word| word == name)?;
    Some(headers[at + 1].as_str().expect("a header is text").to_owned())
}

/// Returns the codes of dead letters, sorted.
#[track_caller]
fn codes(letters: &[Value]) -> Vec<String> {
    let mut codes: Vec<_> = letters.iter().map(|letter| header(letter, "sdl.dlq.code").expect("a letter has a code")).collect();
    codes.sort();
    codes
}
