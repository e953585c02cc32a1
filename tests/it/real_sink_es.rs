//! `sdl sink-es` from a real cluster into Elasticsearch and OpenSearch. Documents are counted with curl.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Clusters, Finished, Running, Sdl, Sender, eventually, setting, stack, stack_env, unique};

mod doctor;
mod keys;
mod kills;
mod limits;
mod loads;
mod payloads;
mod refusals;
mod secured;

const OPENSEARCH: &str = "opensearch";
const ELASTICSEARCH: &str = "elasticsearch";
const BOTH: [&str; 2] = [OPENSEARCH, ELASTICSEARCH];
const OPENSEARCH_SMALL: &str = "opensearch-small";
/// Requests of at most 1 MB, a write queue for one, little memory for writing. Their tests may stop, kill and freeze them, and
/// change their settings: there is one at a time.
const SMALL: [&str; 2] = [OPENSEARCH_SMALL, "elasticsearch-small"];
pub(crate) static DISTURBED: Mutex<()> = Mutex::new(());

/// A server that is asked with curl.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
}

impl Server {
    #[track_caller]
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, url: stack_env(&format!("SDL_TEST_{}", name.to_uppercase().replace('-', "_"))) }
    }

    /// Asks, and returns the answer.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut curl = Command::new("curl");
        curl.args([
            "-sk",
            "--noproxy",
            "*",
            "-m",
            "60",
            "-u",
            "elastic:loader-secret",
            "-X",
            method,
            &format!("{}{path}", self.url),
        ]);
        if !body.is_null() {
            curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        }
        let ran = curl.output().expect("curl starts");
        assert!(ran.status.success(), "{method} {path}: {}", ran.status);
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&ran.stdout)))
    }

    /// Asks for something to be done, which must be. A server that is out of memory for a moment is asked again.
    #[track_caller]
    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let deadline = Instant::now() + patience();
        let answer = loop {
            let answer = self.ask(method, path, body);
            if answer["status"] != 429 || Instant::now() > deadline {
                break answer;
            }
            std::thread::sleep(Duration::from_secs(1));
        };
        assert!(answer.get("error").is_none(), "{method} {path}: {answer}");
        answer
    }

    #[track_caller]
    fn setting(&self, name: &str, value: &Value) {
        self.tell("PUT", "/_cluster/settings", &json!({"persistent": {name: value}}));
    }

    /// Returns the documents of indices that fit, up to ten thousand.
    #[track_caller]
    pub(crate) fn documents(&self, indices: &str, query: &Value) -> Vec<Value> {
        self.tell("POST", &format!("/{indices}/_refresh"), &Value::Null);
        let found = self.tell("POST", &format!("/{indices}/_search"), &json!({"size": 10_000, "query": query}));
        found["hits"]["hits"].as_array().expect("hits").clone()
    }

    #[track_caller]
    fn count(&self, indices: &str) -> u64 {
        self.tell("POST", &format!("/{indices}/_refresh"), &Value::Null);
        self.tell("GET", &format!("/{indices}/_count"), &Value::Null)["count"].as_u64().expect("a count")
    }
}

/// A topic that is loaded into an index called like it.
struct Load<'c> {
    clusters: &'c Clusters,
    server: Server,
    topic: String,
    group: String,
    partitions: i32,
    /// More lines of the source's section.
    settings: &'static str,
}

/// Runs a test on each of these servers, on all of them together.
#[track_caller]
fn each<const N: usize>(servers: [&'static str; N], name: &str, partitions: i32, test: impl Fn(Load<'_>) + Sync) {
    let _alone = SMALL.contains(&servers[0]).then(|| DISTURBED.lock().unwrap_or_else(PoisonError::into_inner));
    let clusters = Clusters::shared();
    together(servers, |server| test(Load::new(&clusters, server, name, partitions)));
}

/// Runs something for each, and for all of them together.
#[track_caller]
fn together<const N: usize>(these: [&'static str; N], run: impl Fn(&'static str) + Sync) {
    std::thread::scope(|scope| {
        let run = &run;
        let running = these.map(|this| (this, scope.spawn(move || run(this))));
        let failed: Vec<_> = running.into_iter().filter_map(|(this, thread)| thread.join().is_err().then_some(this)).collect();
        assert!(failed.is_empty(), "with {failed:?}, for the reasons printed above");
    });
}

impl<'c> Load<'c> {
    #[track_caller]
    fn new(clusters: &'c Clusters, server: &'static str, name: &str, partitions: i32) -> Self {
        let topic = unique(name);
        clusters.source.create_topic(&topic, partitions, &[("max.message.bytes", "20000000")]);
        Self { clusters, server: Server::new(server), group: topic.clone(), topic, partitions, settings: "" }
    }

    /// Returns one more load into the same server.
    #[track_caller]
    fn another(&self, name: &str, partitions: i32) -> Self {
        Self::new(self.clusters, self.server.name, name, partitions)
    }

    /// Removes members that are gone from the group after six seconds.
    fn with_short_session(mut self) -> Self {
        self.settings = "kafka.session.timeout.ms = 6000\nkafka.heartbeat.interval.ms = 500\n";
        self
    }

    fn profile(&self) -> String {
        format!(
            "[local_kafka]\nservers = {}\nkafka.fetch.message.max.bytes = 20000000\n{}\n\
             [other_kafka]\nservers = {}\n\n[search]\ntype = elasticsearch\nurl = {}\nconsumer_group_id = {}\n",
            self.clusters.source.servers, self.settings, self.clusters.target.servers, self.server.url, self.group
        )
    }

    /// Returns `sdl sink-es` of this load.
    fn sdl(&self, flags: &str) -> Sdl {
        let index = if flags.contains("--index") { String::new() } else { format!("--index {}", self.topic) };
        // A server that other tests keep busy may take its time.
        let wait = if flags.contains("--wait") { "" } else { "--wait 60s" };
        let line = format!("sink-es {} --target search {index} {wait} {flags}", self.topic);
        Sdl::new(&line).profile(&self.profile()).deadline(patience())
    }

    /// Runs to the ends that the topic has now and returns the summary; the run must succeed.
    #[track_caller]
    fn catch_up(&self, flags: &str) -> Value {
        self.sdl(&format!("--until-caught-up -o json {flags}")).run().expect(0).json()
    }

    /// Fills the topic with made-up logins.
    #[track_caller]
    fn fake(&self, count: u64) {
        self.fake_with(count, "");
    }

    #[track_caller]
    fn fake_with(&self, count: u64, flags: &str) {
        let line = format!("produce-fake {} -n {count} --seed 7 {flags}", self.topic);
        Sdl::new(&line).profile(&self.profile()).deadline(patience()).run().expect(0);
    }

    /// Sends values, each with a key of its own if one is given, to the partitions in turn.
    #[track_caller]
    fn send(&self, values: &[(Option<&str>, Option<&str>)]) {
        Sender::new(&self.clusters.source, &[("message.max.bytes", "20000000")]).send_values(
            &self.topic,
            self.partitions,
            values,
        );
    }

    #[track_caller]
    fn count(&self) -> u64 {
        self.server.count(&self.topic)
    }

    /// Waits until this many records are committed.
    #[track_caller]
    fn until_committed(&self, running: &mut Running, count: u64) {
        eventually("documents arrive", patience(), || {
            let is_running = running.is_running();
            let is_reached = self.committed().iter().sum::<i64>().cast_unsigned() >= count;
            assert!(is_reached || is_running, "it ended:\n{}", running.stderr());
            is_reached.then_some(())
        });
    }

    /// Panics unless the index holds one document for each record of the topic, under its id and with its place, and no more.
    #[track_caller]
    fn assert_each_once(&self) {
        let ends = self.ends();
        self.server.tell("POST", &format!("/{}/_refresh", self.topic), &Value::Null);
        let mut seen: Vec<Vec<bool>> = ends.iter().map(|end| vec![false; usize::try_from(*end).expect("an offset")]).collect();
        let mut after = Value::Null;
        loop {
            let mut search = json!({
                "size": 10_000,
                "sort": ["_kafka_partition", "_kafka_offset"],
                "_source": ["_kafka_topic", "_kafka_timestamp", "_processed_at"],
            });
            if !after.is_null() {
                search["search_after"] = after;
            }
            let found = self.server.tell("POST", &format!("/{}/_search", self.topic), &search);
            let hits = found["hits"]["hits"].as_array().expect("hits");
            let Some(last) = hits.last() else { break };
            after = last["sort"].clone();
            for hit in hits {
                let place = |at: usize| usize::try_from(hit["sort"][at].as_u64().expect("a number")).expect("a small one");
                let (partition, offset) = (place(0), place(1));
                assert_eq!(hit["_id"], format!("{}:{partition}:{offset}", self.topic), "{hit}");
                assert_eq!(hit["_source"]["_kafka_topic"], self.topic, "{hit}");
                assert!(hit["_source"]["_kafka_timestamp"].is_i64() && hit["_source"]["_processed_at"].is_string(), "{hit}");
                assert!(!std::mem::replace(&mut seen[partition][offset], true), "there twice: {hit}");
            }
        }
        let missing: usize = seen.iter().flatten().filter(|seen| !**seen).count();
        assert_eq!(missing, 0, "of {ends:?}");
        assert_eq!(self.count(), ends.iter().sum::<i64>().cast_unsigned());
    }

    #[track_caller]
    fn ends(&self) -> Vec<i64> {
        self.clusters.source.offsets(&self.topic).into_iter().map(|(_, end)| end).collect()
    }

    /// Returns the committed offset of each partition, 0 where there is none.
    #[track_caller]
    fn committed(&self) -> Vec<i64> {
        self.clusters.source.committed(&self.group, &self.topic).into_iter().map(Option::unwrap_or_default).collect()
    }

    #[track_caller]
    fn assert_committed(&self) {
        assert_eq!(self.committed(), self.ends());
    }
}

/// A server that does not answer, until this is dropped.
struct Frozen(&'static str);

impl Frozen {
    #[track_caller]
    fn new(server: &Server) -> Self {
        stack(&["freeze", server.name]);
        Self(server.name)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        stack(&["thaw", self.0]);
    }
}

fn patience() -> Duration {
    Duration::from_secs(setting("SDL_TEST_PATIENCE", 300))
}

/// Returns the lines of a file of dead letters.
#[track_caller]
fn letters(finished: &Finished, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(finished.path(name)).expect("there are dead letters");
    text.lines().map(|line| serde_json::from_str(line).expect("a letter is a line of JSON")).collect()
}

/// Returns a header of a dead letter.
#[track_caller]
fn header(letter: &Value, name: &str) -> String {
    let headers = letter["headers"].as_array().expect("a letter has headers");
    let at = headers.iter().position(|word| word == name).unwrap_or_else(|| panic!("`{name}` is missing: {letter}"));
    headers[at + 1].as_str().expect("a header is text").to_owned()
}

/// Returns the codes of dead letters, sorted.
#[track_caller]
fn codes(letters: &[Value]) -> Vec<String> {
    let mut codes: Vec<_> = letters.iter().map(|letter| header(letter, "sdl.dlq.code")).collect();
    codes.sort();
    codes
}
