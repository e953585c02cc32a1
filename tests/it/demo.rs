//! `sdl demo`: the story, and the accounts at its end.

use serde_json::{Value, json};

use crate::harness::{Clusters, Sdl, pymongo, stack_env};
use crate::real_sink_es::Server;

#[test]
fn the_demo_accounts_for_every_record() {
    let ended = Sdl::new("demo").env("SDL_PROFILE", "/nowhere").run().expect(0);
    let table = String::from_utf8(ended.stdout).unwrap();
    let last: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["all", "20000", "20000", "20000", "20000", "yes"], "{table}\n{}", ended.stderr);
    assert!(!table.contains("NO"), "{table}");
    let commands: Vec<_> = ended.stderr.lines().filter_map(|line| line.strip_prefix("$ sdl ")?.split(' ').next()).collect();
    assert_eq!(commands, ["produce-fake", "replicate", "aggregate", "tail", "lag", "tail", "tail"], "{}", ended.stderr);
}

#[test]
fn an_unreachable_server_is_reported_before_the_start() {
    let ended = Sdl::new("demo --mongo mongodb://127.0.0.1:1").env("SDL_PROFILE", "/nowhere").run().expect(1);
    let expected = "error: cannot connect to the server of --mongo\n  caused by: 127.0.0.1:1: connecting: connection refused\n\
                hint: correct --mongo, or remove it\n";
    assert_eq!(ended.stderr, expected);
}

#[test]
#[ignore = "needs MongoDB and search servers: scripts/test runs it"]
fn real_sinks_the_demo_loads_into_servers_and_counts_there() {
    let _held = Clusters::shared();
    let (mongo, search) = (stack_env("SDL_TEST_MONGO_JAVA"), stack_env("SDL_TEST_OPENSEARCH"));
    let ended = Sdl::new(&format!("demo --mongo {mongo} --es {search}")).run().expect(0);
    let table = String::from_utf8(ended.stdout).unwrap();
    let last: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["all", "20000", "20000", "20000", "20000", "20000", "20000", "yes"], "{table}\n{}", ended.stderr);
    let left = |before: &str, after: &str| {
        let text = ended.stderr.split_once(before).unwrap_or_else(|| panic!("{}", ended.stderr)).1;
        text.split_once(after).unwrap().0.to_owned()
    };
    let collection = left("remain in sdl-demo.", ".");
    let counted = pymongo(&mongo, &json!(collection), "answer = client['sdl-demo'][arg].count_documents({})");
    assert_eq!(counted, json!(20_000));
    pymongo(&mongo, &json!(collection), "client['sdl-demo'].drop_collection(arg)");
    let server = Server::new("opensearch");
    let index = left("remain in the index ", ".");
    assert_eq!(server.ask("GET", &format!("/{index}/_count"), &Value::Null)["count"], 20_000);
    server.ask("DELETE", &format!("/{index}"), &Value::Null);
}
