//! The recipes of docs/recipes.md and the tour of docs/tour.md: their commands are run, their output is compared with the page, and
//! their results are counted by programs that share no code with the project.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};

use crate::harness::{Cluster, Clusters, MetricsPage, pymongo, stack_env};
use crate::real_sink_es::Server;

/// How long the lines of a block may take together.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(240);
/// How long the tour may take, with the servers that it starts.
const TOUR_TIMEOUT: Duration = Duration::from_secs(900);
/// Recipes use the names of the document: one runs at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Returns a recipe with what is replaced in it before it is run, and nothing else is: the addresses of servers, the port of the
/// metrics, and a folder that only a service may write to.
fn placed(recipe: &str, home: &Path) -> String {
    let search = if recipe.contains("[opensearch]") { "SDL_TEST_OPENSEARCH" } else { "SDL_TEST_ELASTICSEARCH" };
    let mongo = || stack_env("SDL_TEST_MONGO_JAVA").trim_start_matches("mongodb://").replace(':', "\nport = ");
    let port = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let kafka = |number: usize| stack_env("SDL_TEST_KAFKA").split(',').nth(number).expect("a cluster").to_owned();
    let places: [(&str, &dyn Fn() -> String); 7] = [
        ("localhost:9092", &|| kafka(0)),
        ("old.example.com:9092", &|| kafka(1)),
        ("kafka.example.com:9093", &|| stack_env("SDL_TEST_KAFKA_SASL_SSL")),
        ("http://localhost:9200", &|| stack_env(search)),
        ("localhost\nport = 27017", &mongo),
        ("9464", &|| port().to_string()),
        ("/var/log/sdl", &|| home.join("services").display().to_string()),
    ];
    let replace = |text: String, (written, place): &(&str, &dyn Fn() -> String)| {
        if text.contains(written) { text.replace(written, &place()) } else { text }
    };
    places.iter().fold(recipe.to_owned(), replace)
}

/// A recipe, and the folder in which it is run.
struct Recipe {
    home: tempfile::TempDir,
    /// Language and text of what stands between fences.
    blocks: Vec<(String, String)>,
    local: Cluster,
    _others: Clusters,
    _one: MutexGuard<'static, ()>,
}

/// A shell and all that it started, which ends with it.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

impl Recipe {
    /// Returns the recipe under this heading, with its profile in place.
    fn named(heading: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let others = Clusters::shared();
        let home = tempfile::tempdir().expect("a temporary folder");
        let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md")).expect("docs/recipes.md");
        let found = document.split("\n## ").find(|part| part.lines().next() == Some(heading));
        let text = placed(found.unwrap_or_else(|| panic!("no recipe `{heading}`")), home.path());
        let recipe = Self { home, blocks: blocks(&text), local: others.source.clone(), _others: others, _one: one };
        let profile = recipe.path("database.ini");
        fs::write(&profile, recipe.of("ini").concat()).expect("the profile is written");
        fs::set_permissions(&profile, Permissions::from_mode(0o600)).expect("the profile is private");
        recipe
    }

    fn of(&self, language: &str) -> Vec<&str> {
        self.blocks.iter().filter(|(of, _)| of == language).map(|(_, text)| text.as_str()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs these blocks of commands, and compares their output with the document.
    fn run(&self, blocks: std::ops::Range<usize>) {
        let at: Vec<_> = self.blocks.iter().enumerate().filter(|(_, (of, _))| of == "sh").map(|(at, _)| at).collect();
        for at in &at[blocks] {
            let output = self.shell(&self.blocks[*at].1);
            if let Some((_, sample)) = self.blocks.get(at + 1).filter(|(of, _)| of == "text") {
                assert_shown(sample, &output);
            }
        }
    }

    /// Runs commands unchanged, with `sdl` in the path, and returns their output.
    fn shell(&self, commands: &str) -> String {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", commands]).current_dir(self.home.path());
        bash.env_clear().env("PATH", path_with_sdl()).env("HOME", self.home.path()).env("LC_ALL", "C.UTF-8");
        bash.envs(std::env::var("SDL_TEST_PASSWORD").map(|password| ("REMOTE_KAFKA_PASSWORD", password)));
        printed(bash, &self.path("output"), BLOCK_TIMEOUT)
    }

    /// Tries the service lines: each would go on where the recipe has left off.
    fn try_services(&self) {
        let services = self.of("env");
        assert!(!services.is_empty(), "a recipe says how it is run as a service");
        for service in services {
            let command = service.trim_end().strip_prefix("COMMAND=").unwrap_or_else(|| panic!("{service}"));
            let output = self.shell(&format!("sdl {command} --wait 10m --dry-run"));
            assert!(output.contains("(committed)") && output.contains("dry run: nothing was changed"), "{command}\n{output}");
        }
    }
}

fn path_with_sdl() -> String {
    let sdl = Path::new(env!("CARGO_BIN_EXE_sdl")).parent().expect("a folder");
    format!("{}:{}", sdl.display(), std::env::var("PATH").expect("a path"))
}

/// Runs a shell, which must succeed, and returns its output.
#[track_caller]
fn printed(mut bash: Command, output: &Path, timeout: Duration) -> String {
    let to = File::create(output).expect("a file for what is printed");
    bash.process_group(0).stdin(Stdio::null()).stdout(to.try_clone().expect("a second handle")).stderr(to);
    let mut shell = Shell(bash.spawn().expect("bash starts"));
    let begun = Instant::now();
    let output = || String::from_utf8_lossy(&fs::read(output).expect("what is printed")).into_owned();
    let status = loop {
        if let Some(status) = shell.0.try_wait().expect("a child can be waited for") {
            break status;
        }
        assert!(begun.elapsed() < timeout, "it does not end:\n{bash:?}\n{}", output());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}:\n{bash:?}\n{}", output());
    output()
}

/// Returns the blocks between fences, each with its language.
fn blocks(text: &str) -> Vec<(String, String)> {
    let fences = Regex::new(r"(?ms)^```(\w+)\n(.*?)^```$").expect("an expression");
    fences.captures_iter(text).map(|block| (block[1].to_owned(), block[2].to_owned())).collect()
}

/// Panics unless each line of a sample is one that was printed. `…` stands for anything.
#[track_caller]
fn assert_shown(sample: &str, output: &str) {
    for line in sample.lines().filter(|line| line.trim() != "…") {
        let pattern = line.split('…').map(regex::escape).collect::<Vec<_>>().join(".*");
        let is_there = Regex::new(&format!("(?m)^{pattern}$")).expect("an expression").is_match(output);
        assert!(is_there, "the document shows `{line}`; printed was:\n{output}");
    }
}

/// Deletes the results of a recipe and of its earlier runs.
struct Swept<'a, F: Fn()>(&'a F);

impl<'a, F: Fn()> Swept<'a, F> {
    fn before_and_after(sweep: &'a F) -> Self {
        sweep();
        Self(sweep)
    }
}

impl<F: Fn()> Drop for Swept<'_, F> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            (self.0)();
        }
    }
}

fn delete_topics(cluster: &Cluster, topics: &[&str]) {
    for topic in topics.iter().filter(|topic| cluster.partitions(topic) > 0) {
        cluster.delete_topic(topic);
    }
}

/// Reads a topic with kcat, pipes it to `recount.py`, and returns the output.
#[track_caller]
fn recounted(cluster: &Cluster, topic: &str, arguments: &[&str]) -> Vec<Value> {
    let kcat = Command::new("kcat")
        .args(["-C", "-b", &cluster.servers, "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %s\\n"])
        .output()
        .expect("kcat starts");
    assert!(kcat.status.success(), "kcat: {}", String::from_utf8_lossy(&kcat.stderr));
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("real_recipes/recount.py")]).args(arguments);
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
    let mut to = python.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || to.write_all(&kcat.stdout).expect("python reads"));
    let ran = python.wait_with_output().expect("python ends");
    writer.join().expect("all is written");
    assert!(ran.status.success(), "recount.py {arguments:?} of {topic}");
    serde_json::from_slice(&ran.stdout).expect("python wrote JSON")
}

/// Returns values by partition and offset. Panics when a place is there twice.
#[track_caller]
fn by_place(records: impl IntoIterator<Item = Value>) -> BTreeMap<(i64, i64), Value> {
    let mut places = BTreeMap::new();
    for record in records {
        let place = (record[0].as_i64().expect("a partition"), record[1].as_i64().expect("an offset"));
        let earlier = places.insert(place, record[2].clone());
        assert!(earlier.is_none(), "{place:?} is there twice: {record} and {earlier:?}");
    }
    places
}

/// Panics where two accounts of the same differ.
#[track_caller]
fn assert_same_records(wanted: &BTreeMap<(i64, i64), Value>, found: &BTreeMap<(i64, i64), Value>) {
    for (place, wanted) in wanted {
        assert_eq!(found.get(place), Some(wanted), "{place:?}");
    }
    assert_eq!(wanted.len(), found.len(), "records");
}

/// Returns the values of a topic of one partition, in their order.
#[track_caller]
fn values(cluster: &Cluster, topic: &str) -> Vec<Value> {
    by_place(recounted(cluster, topic, &["records"])).into_values().collect()
}

/// Returns the documents of an index by the places of their records, without the fields that sdl adds.
#[track_caller]
fn documents(server: &Server, index: &str) -> BTreeMap<(i64, i64), Value> {
    by_place(server.documents(index, &json!({"match_all": {}})).into_iter().map(|hit| {
        let all = hit["_source"].as_object().expect("a document");
        let own: serde_json::Map<_, _> = all
            .iter()
            .filter(|(name, _)| !name.starts_with(['_', '@']))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        json!([all["_kafka_partition"], all["_kafka_offset"], own])
    }))
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_recipe_a_cluster_moved_to_another_with_its_consumers() {
    let recipe = Recipe::named("A cluster moved to another, with its consumers");
    let old = Cluster::at(stack_env("SDL_TEST_KAFKA").split(',').nth(1).expect("a second cluster"));
    let (topic, group) = ("moved-logins", "billing");
    let sweep = || {
        for cluster in [&old, &recipe.local] {
            delete_topics(cluster, &[topic]); // and with it the offsets of the groups
        }
    };
    let _swept = Swept::before_and_after(&sweep);
    recipe.run(0..4);
    assert_eq!(recipe.local.committed(group, topic), old.committed(group, topic));
    let wanted = by_place(recounted(&old, topic, &["records"]));
    assert_eq!(wanted.len(), 10_000, "records");
    assert_same_records(&wanted, &by_place(recounted(&recipe.local, topic, &["records"])));
    recipe.try_services();
}

#[test]
#[ignore = "needs Kafka and Elasticsearch: scripts/test runs it"]
fn real_sink_recipe_topics_into_elasticsearch() {
    let recipe = Recipe::named("Topics into Elasticsearch");
    let server = Server::new("elasticsearch");
    let sweep = || {
        delete_topics(&recipe.local, &["eu-logins", "us-logins"]);
        server.ask("DELETE", "/eu-logins,us-logins?ignore_unavailable=true", &Value::Null);
    };
    let _swept = Swept::before_and_after(&sweep);
    recipe.run(0..3);
    let mut good = 0;
    for index in ["eu-logins", "us-logins"] {
        let wanted = by_place(recounted(&recipe.local, index, &["records"]));
        assert_same_records(&wanted, &documents(&server, index));
        good += wanted.len() as u64;
    }
    let all = recipe.local.count("eu-logins") + recipe.local.count("us-logins");
    let letters = fs::read_to_string(recipe.path("bad-logins.ndjson")).expect("dead letters");
    assert_eq!(letters.lines().count() as u64, all - good, "dead letters");
    assert!(all > good);
    let page = MetricsPage(fs::read_to_string(recipe.path("metrics.txt")).expect("metrics"));
    page.assert_sound();
    assert_eq!(page.value("sdl_messages_processed_total{outcome=\"delivered\"}"), Some(2000.0), "{}", page.0);
    assert!(page.value("sdl_retries_total").is_some_and(|retries| retries > 0.0), "{}", page.0);
    assert_eq!(page.value("sdl_dead_letters_total"), Some(0.0), "what was refused for now is no dead letter: {}", page.0);
    recipe.try_services();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_recipe_logins_into_summaries() {
    let recipe = Recipe::named("Logins into summaries");
    let sweep = || delete_topics(&recipe.local, &["user-login", "user-login-processed"]);
    let _swept = Swept::before_and_after(&sweep);
    for (blocks, windows) in [(0..2, 3), (2..3, 5)] {
        recipe.run(blocks);
        let wanted = recounted(&recipe.local, "user-login", &["summaries", "10"]);
        assert_eq!(wanted.len(), windows, "windows");
        assert_eq!(wanted[0]["timestamp_start"], 1_694_479_550);
        assert!(wanted[0]["interval_missing_field_count"]["device_type"].as_u64() > Some(100), "{}", wanted[0]);
        assert_eq!(values(&recipe.local, "user-login-processed"), wanted);
    }
    recipe.try_services();
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_recipe_a_remote_cluster_into_a_local_one_and_mongodb() {
    let recipe = Recipe::named("A remote cluster into a local one, and on into MongoDB");
    let remote = Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT"));
    let mongo = stack_env("SDL_TEST_MONGO_JAVA");
    let sweep = || {
        delete_topics(&remote, &["user-login"]);
        delete_topics(&recipe.local, &["user-login"]);
        pymongo(&mongo, &Value::Null, "client['logins'].drop_collection('raw')");
    };
    let _swept = Swept::before_and_after(&sweep);
    fs::copy(format!("{}/ca.pem", stack_env("SDL_TEST_TLS")), recipe.path("ca.pem")).expect("the CA's certificate");
    let documents = "own = lambda document: {name: value for name, value in document.items() if not name.startswith('_')}\n\
                     answer = [[document['_kafka_partition'], document['_kafka_offset'], own(document)]\n\
                     \x20         for document in client['logins']['raw'].find()]";
    for (blocks, records, runs) in [(0..2, 10_000, 1), (2..3, 12_500, 2)] {
        recipe.run(blocks);
        let wanted = by_place(recounted(&remote, "user-login", &["records"]));
        assert_eq!(wanted.len(), records, "records");
        assert_same_records(&wanted, &by_place(recounted(&recipe.local, "user-login", &["records"])));
        let Value::Array(found) = pymongo(&mongo, &Value::Null, documents) else { panic!("a list") };
        assert_same_records(&wanted, &by_place(found));
        for command in ["replicate", "sink-mongo"] {
            let logs = fs::read_dir(recipe.path("logs")).expect("logs").map(|log| log.expect("a log").path());
            let name = Regex::new(&format!(r"/\d{{8}}_\d{{6}}_{command}\.log$")).expect("an expression");
            let logs: Vec<_> = logs.filter(|log| name.is_match(&log.to_string_lossy())).collect();
            assert_eq!(logs.len(), runs, "{logs:?}");
            for log in logs {
                let text = fs::read_to_string(&log).expect("a log");
                let last = text.lines().last().expect("a line");
                assert!(last.contains("Finished.") && last.contains("ended=\"complete\""), "{}: {last}", log.display());
                assert!(!text.contains(&stack_env("SDL_TEST_PASSWORD")), "{text}");
            }
        }
    }
    recipe.try_services();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_recipe_logins_on_a_dashboard() {
    let recipe = Recipe::named("Logins on a dashboard");
    let sweep = || delete_topics(&recipe.local, &["user-login", "user-login-analytics"]);
    let _swept = Swept::before_and_after(&sweep);
    recipe.run(0..2);
    let wanted = recounted(&recipe.local, "user-login", &["rows", "20"]);
    let ordered = |rows: &[Value]| {
        let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    assert_eq!(ordered(&values(&recipe.local, "user-login-analytics")), ordered(&wanted));

    let page = MetricsPage(fs::read_to_string(recipe.path("metrics.txt")).expect("metrics"));
    // promtool wants no gauge to end in `_count`; the dashboard knows these three by their names.
    let gauges = Regex::new(r"\bsdl_(device_type|locale|total)_count\b").expect("an expression");
    MetricsPage(gauges.replace_all(&page.0, "sdl_${1}_now").into_owned()).assert_sound();
    let end = &wanted.last().expect("rows")["processing_time"];
    let last: Vec<_> = wanted.iter().filter(|row| row["processing_time"] == *end).collect();
    assert!(last.len() > 10, "{last:?}");
    for row in &last {
        let kind = row["record_type"].as_str().expect("a type");
        let sample = match (kind, row[kind].as_str().expect("a value")) {
            ("total", _) => "sdl_total_count{record_type=\"total\",topic=\"user-login\"}".to_owned(),
            (kind, value) => format!("sdl_{kind}_count{{{kind}=\"{value}\",topic=\"user-login\"}}"),
        };
        assert_eq!(page.value(&sample), row["count"].as_f64(), "{sample}\n{}", page.0);
    }

    let dashboard = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/dashboards/logins.json"));
    let names = Regex::new(r"\bsdl_\w+").expect("an expression");
    let mut asked: Vec<_> = names.find_iter(dashboard.as_ref().expect("the dashboard")).map(|name| name.as_str()).collect();
    asked.sort_unstable();
    asked.dedup();
    assert!(asked.len() > 2, "{asked:?}");
    for name in asked {
        assert!(page.0.lines().any(|line| line.starts_with(&format!("{name}{{"))), "the dashboard asks for {name}\n{}", page.0);
    }
    fs::write(recipe.path("prometheus.yml"), recipe.of("yaml").concat()).expect("the configuration is written");
    if Command::new("promtool").arg("--version").output().is_ok() || std::env::var("CI").as_deref() == Ok("true") {
        recipe.shell("promtool check config prometheus.yml");
    } else {
        eprintln!("left out: promtool is not there");
    }
    recipe.try_services();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_recipe_replaying_dead_letters() {
    let recipe = Recipe::named("Replaying dead letters");
    let sweep = || delete_topics(&recipe.local, &["user-login", "user-login-checked", "bad-logins"]);
    let _swept = Swept::before_and_after(&sweep);
    recipe.run(0..3);
    let wanted = recounted(&recipe.local, "user-login", &["records"]);
    assert_eq!(wanted.len(), 5000, "records");
    // In another topic a record goes to the partition of its key, as here: only its offset differs.
    let values = |records: &[Value]| {
        let value = |record: &Value| {
            let mut value = record[2].clone();
            let type_ = value.as_object_mut().expect("a login").entry("device_type").or_insert_with(|| json!("unknown"));
            assert!(type_.is_string(), "{record}");
            value.to_string()
        };
        let mut values: Vec<String> = records.iter().map(value).collect();
        values.sort();
        values
    };
    assert_eq!(values(&recounted(&recipe.local, "user-login-checked", &["records"])), values(&wanted));
    assert_eq!(recipe.local.count("bad-logins"), 96, "the letters stay");
}

#[test]
#[ignore = "needs Kafka and OpenSearch: scripts/test runs it"]
fn real_sink_recipe_logins_processed_into_opensearch() {
    let recipe = Recipe::named("Logins, processed, into OpenSearch");
    let server = Server::new("opensearch");
    let index = "processed-user-login-index";
    let sweep = || {
        delete_topics(&recipe.local, &["user-login", "processed-user-login"]);
        server.ask("DELETE", &format!("/{index}?ignore_unavailable=true"), &Value::Null);
        server.ask("DELETE", &format!("/_index_template/sdl-{index}"), &Value::Null);
    };
    let _swept = Swept::before_and_after(&sweep);
    recipe.run(0..3);
    let wanted = by_place(recounted(&recipe.local, "user-login", &["shaped"]));
    assert_eq!(wanted.len(), 5000, "records");
    assert_same_records(&wanted, &by_place(recounted(&recipe.local, "processed-user-login", &["records"])));
    let found = documents(&server, index);
    assert_same_records(&wanted, &found);

    let iso = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$").expect("an expression");
    let masked = Regex::new(r"^\d+\.\d+\.\d+\.xxx$").expect("an expression");
    let text = |document: &Value, field: &str| document[field].as_str().unwrap_or_default().to_owned();
    for document in found.values() {
        let good = iso.is_match(&text(document, "timestamp")) && masked.is_match(&text(document, "ip"));
        assert!(good && !text(document, "device_type").is_empty(), "{document}");
    }
    assert!(found.values().any(|document| document["device_type"] == "unknown"));

    // The index pattern of the dashboard finds the fields of its panels.
    let objects = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/opensearch/user-login.ndjson"));
    let objects: Vec<Value> =
        objects.expect("the dashboard").lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let mut fields: Vec<String> = Vec::new();
    for object in objects.iter().filter(|object| object["type"] == "visualization") {
        if object["references"].as_array().is_some_and(|references| references.iter().any(|to| to["id"] == "user-login*")) {
            let state = object["attributes"]["visState"].as_str().expect("a state");
            let state: Value = serde_json::from_str(state).expect("a state in JSON");
            let aggregations = state["aggs"].as_array().expect("aggregations");
            fields.extend(aggregations.iter().filter_map(|one| Some(one["params"]["field"].as_str()?.to_owned())));
        }
    }
    for field in ["@timestamp", "device_type", "locale", "user_id"] {
        assert!(fields.iter().any(|asked| asked == field), "{fields:?}");
    }
    for field in fields {
        let answer = server.ask("GET", &format!("/user-login*/_count?q=_index:{index}%20AND%20_exists_:{field}"), &Value::Null);
        assert_eq!(answer["count"], 5000, "{field}: {answer}");
    }
    recipe.try_services();
}

/// The stack that the tour starts, gone when it is dropped.
struct TourStack(PathBuf);

impl Drop for TourStack {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
        let _ = Command::new(script).arg("down").env("SDL_STACK_DIR", &self.0).output();
    }
}

#[test]
#[ignore = "needs Kafka, MongoDB and OpenSearch: scripts/test runs it"]
fn real_sink_tour_runs_as_written() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _others = Clusters::shared();
    let home = tempfile::tempdir().expect("a temporary folder");
    let stack = TourStack(home.path().join("stack"));
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tour.md")).expect("docs/tour.md");
    let commands: String = blocks(&document).into_iter().filter(|(of, _)| of == "sh").map(|(_, text)| text).collect();
    // The binary is built already, and the files go elsewhere.
    let places =
        [("cargo build --release\n", ""), ("$PWD/target/release:", ""), ("/tmp/", &format!("{}/", home.path().display()))];
    let commands = places.iter().fold(commands, |commands, (written, place)| {
        assert!(commands.contains(written), "the tour has `{written}`");
        commands.replace(written, place)
    });
    let mut bash = Command::new("bash");
    bash.args(["-uo", "pipefail", "-c", &commands]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SDL_TEST_")) {
        bash.env_remove(name);
    }
    bash.env("PATH", path_with_sdl()).env("SDL_STACK_DIR", &stack.0).env("LC_ALL", "C.UTF-8");
    let output = printed(bash, &home.path().join("output"), TOUR_TIMEOUT);
    let all = |pattern: &str| {
        let pattern = Regex::new(pattern).expect("an expression");
        pattern.find_iter(&output).map(|found| found.as_str().to_owned()).collect::<Vec<_>>()
    };
    let sums = all(r"(?m)^\d{6,} \d{6,}$");
    assert!(sums.len() == 2 && sums[0] == sums[1], "both clusters have the same records: {sums:?}\n{output}");
    // The killed copy may have repeated records, bad ones among them: both loads read the same topic and find the same in it.
    let numbers = |label: &str| -> Vec<u64> {
        let lines = all(&format!(r"(?m)^  {label} +[\d,]+"));
        lines.iter().map(|line| line.replace([' ', ','], "").replace(label, "").parse().expect("a number")).collect()
    };
    let (read, bad) = (numbers("read"), numbers("dead-lettered"));
    let [resumed, shaped, mongo, search, again, ref followed @ ..] = read[..] else {
        panic!("five summaries at least: {read:?}\n{output}")
    };
    assert!(followed.len() <= 1, "a signal during its start leaves the last run without a summary: {read:?}\n{output}");
    // The killed run has delivered at most every record, and the resumed one repeats at most all that it reads.
    assert!(resumed <= 300_000 && (300_000..=300_000 + resumed).contains(&mongo), "{read:?}\n{output}");
    assert_eq!((shaped, search, again), (300_000, mongo, mongo), "{output}");
    assert!(matches!(bad[..], [34, by_mongo, by_search] if by_mongo == by_search), "{bad:?}\n{output}");
    assert!((34..=(34 + mongo - shaped).min(68)).contains(&bad[1]), "{bad:?} of {read:?}\n{output}");
    let counts = all(r#""count":\d+"#);
    assert_eq!(counts, [format!("\"count\":{}", mongo - bad[1])], "{output}");
    assert_eq!(all(r"(?m)^exit code \d+$"), ["exit code 0", "exit code 0"], "{output}");
    assert!(all(r"(?m)^error: .*$").iter().all(|error| error.contains("bad records")), "{output}");
}
