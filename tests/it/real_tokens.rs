//! Tokens on a real cluster: renewed during a run, and not to be had.

use std::time::{Duration, SystemTime};

use crate::harness::{
    CLIENT_SECRET, Cluster, Running, Sdl, Sender, TokenServer, assert_same, numbered, read, setting, stack_env, token,
    token_until, unique,
};

/// The life of a token; the broker ends a session with it.
const LIFE: Duration = Duration::from_secs(5);

/// A topic to replicate within the secured cluster, by clients that log in with tokens.
struct TokenFlow {
    plain: Cluster,
    topic: String,
    target: String,
}

impl TokenFlow {
    fn new(name: &str) -> Self {
        let plain = Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT"));
        let topic = unique(name);
        plain.create_topic(&topic, 2, &[]);
        Self { plain, target: format!("{topic}-copy"), topic }
    }

    /// Starts a run whose sections have these keys.
    fn start(&self, keys: &str, flags: &str) -> Running {
        let servers = stack_env("SDL_TEST_KAFKA_OAUTH");
        let section = |name: &str| format!("[{name}]\nservers = {servers}\nsecurity_protocol = SASL_PLAINTEXT\n{keys}\n");
        let line = format!("replicate {} --to-topic {} --group {} {flags}", self.topic, self.target, self.target);
        let profile = [section("remote_kafka"), section("local_kafka")].concat();
        Sdl::new(&line).profile(&profile).deadline(Duration::from_secs(300)).start()
    }

    /// Sends `count` records from number `first` on.
    fn send(&self, first: u64, count: u64) -> Vec<(i32, crate::harness::Content)> {
        let sent = numbered(1, first, count, 2);
        Sender::new(&self.plain, &[]).send(&self.topic, &sent);
        sent
    }

    fn assert_copied(&self, mut sent: Vec<(i32, crate::harness::Content)>) {
        sent.sort_by_key(|(partition, _)| *partition);
        assert_same(&sent, &read(&self.plain, &self.target));
    }
}

fn without_protocol(server: &TokenServer) -> String {
    server.keys("loader").replace("security_protocol = SASL_PLAINTEXT\n", "")
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_tokens_are_renewed_during_a_run_and_nothing_is_lost() {
    let (flow, server) = (TokenFlow::new("renewals"), TokenServer::start(LIFE));
    let keys = format!("{}oauth_extensions = poolId=p\n", without_protocol(&server));
    let mut running = flow.start(&keys, "-v");
    let (mut sent, renewals) = (Vec::new(), setting("SDL_TEST_RENEWALS", 12));
    while server.issued() < renewals {
        let first = sent.len() as u64;
        sent.extend(flow.send(first, 200));
        running.wait_for_count(&flow.plain, &flow.target, first + 200);
    }
    let finished = running.end();
    assert!(!finished.stderr.to_lowercase().contains("stalled"), "{}", finished.stderr);
    assert!(!finished.stderr.contains(CLIENT_SECRET), "{}", finished.stderr);
    flow.assert_copied(sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_token_endpoint_that_is_down_stalls_the_run_which_says_why_and_goes_on() {
    let (flow, server) = (TokenFlow::new("endpoint-down"), TokenServer::start(LIFE));
    let mut running = flow.start(&without_protocol(&server), "-v");
    let mut sent = flow.send(0, 200);
    running.wait_for_count(&flow.plain, &flow.target, 200);
    server.hang_up();
    running.wait_until_stderr("names the token", |printed| printed.contains("Cannot renew the token of `"));
    running.wait_until_stderr("names the endpoint in a stall", |printed| {
        printed.lines().any(|line| line.to_lowercase().contains("stalled") && line.contains(&server.url()))
            || printed.lines().filter(|line| !line.contains("Cannot renew")).any(|line| line.contains(&server.url()))
    });
    assert!(running.is_running(), "an outage does not end a run:\n{}", running.stderr());
    sent.extend(flow.send(200, 200));
    server.issue();
    running.wait_for_count(&flow.plain, &flow.target, 400);
    running.end();
    flow.assert_copied(sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_token_of_a_file_or_a_command_is_read_again() {
    let flow = TokenFlow::new("token-file");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("token");
    let write = || {
        let temporary = folder.path().join("next");
        std::fs::write(&temporary, token("loader", LIFE)).expect("the token is written");
        std::fs::rename(&temporary, &path).expect("the token is replaced");
    };
    let mut sent = Vec::new();
    for key in [format!("oauth_token_file = {}", path.display()), format!("oauth_token_command = cat {}", path.display())] {
        write();
        let mut running = flow.start(&format!("sasl_mechanism = OAUTHBEARER\n{key}"), "-v");
        let until = SystemTime::now() + 3 * LIFE;
        while SystemTime::now() < until {
            write();
            let first = sent.len() as u64;
            sent.extend(flow.send(first, 100));
            running.wait_for_count(&flow.plain, &flow.target, first + 100);
        }
        running.end();
    }
    flow.assert_copied(sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_start_without_a_token_that_the_broker_accepts_has_one_clear_error() {
    let (flow, server) = (TokenFlow::new("no-token"), TokenServer::start(Duration::from_secs(60)));
    let fails = |keys: &str, cause: &str| {
        let finished = flow.start(keys, "--until-caught-up").wait().expect(1);
        assert!(finished.stderr.contains(cause), "`{cause}` is not in:\n{}", finished.stderr);
        assert_eq!(finished.stderr.matches("error: ").count(), 1, "{}", finished.stderr);
        assert!(!finished.stderr.contains(CLIENT_SECRET), "{}", finished.stderr);
    };
    let stranger = without_protocol(&server).replace("oauth_client_id = loader", "oauth_client_id = stranger");
    fails(&stranger, "the token endpoint does not accept client `stranger`");
    server.hang_up();
    fails(&without_protocol(&server), &server.url());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let key = format!("sasl_mechanism = OAUTHBEARER\noauth_token_file = {}", file.path().display());
    std::fs::write(&file, token_until("loader", SystemTime::now() - LIFE)).expect("the token is written");
    fails(&key, "is expired");
    // A token that says nothing of its expiry: the broker's validator wants it.
    std::fs::write(&file, "e30.e30.").expect("the token is written");
    fails(&key, "authentication failed for the token (OAUTHBEARER)");
}
