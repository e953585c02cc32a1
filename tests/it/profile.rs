//! The profile: what it may hold, and which value wins.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use sdl::profile::{ElasticLogin, KafkaSection, Kind, Origin, Profile, ProfileError, Protect, SERVERS, Surroundings};

use crate::run::{Folder, ended};

/// Variables and files that exist in a test only.
#[derive(Clone, Default)]
pub(crate) struct Made {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    exposed: bool,
}

impl Made {
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.as_bytes().to_vec());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn exposed(mut self) -> Self {
        self.exposed = true;
        self
    }

    pub(crate) fn load(self) -> Result<Profile, ProfileError> {
        Profile::load(None, Arc::new(self))
    }
}

impl Surroundings for Made {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn variable_names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn others_can_read(&self, _: &Path) -> bool {
        self.exposed
    }
}

pub(crate) fn profile(text: &str) -> Made {
    Made::default().file("./database.ini", text)
}

/// Returns the section `local_kafka` with these lines.
fn kafka(lines: &str) -> Result<KafkaSection, ProfileError> {
    profile(&format!("[local_kafka]\n{lines}")).load().and_then(|profile| profile.kafka("local_kafka"))
}

/// Returns the causes of the error.
fn cause<T: std::fmt::Debug>(outcome: Result<T, ProfileError>) -> String {
    outcome.unwrap_err().causes().join("; ")
}

#[test]
fn the_first_place_that_has_a_profile_counts() {
    let section = |name: &str| format!("[{name}]\nservers = a:1\n");
    let places =
        [("/named.ini", "named"), ("./database.ini", "here"), ("/xdg/sdl/database.ini", "xdg"), ("/etc/sdl/database.ini", "etc")];
    for skipped in 0..places.len() {
        let mut made = Made::default().variable("XDG_CONFIG_HOME", "/xdg").variable("HOME", "/home/me");
        for (path, name) in &places[skipped..] {
            made = made.file(path, &section(name));
        }
        if skipped == 0 {
            made = made.variable("SDL_PROFILE", "/named.ini");
        }
        let profile = made.load().unwrap();
        assert_eq!(profile.section_names().collect::<Vec<_>>(), [places[skipped].1]);
        assert_eq!(profile.path(), Some(Path::new(places[skipped].0)));
    }
}

#[test]
fn a_flag_names_the_profile_before_the_variable_does() {
    let made = Made::default().file("/flag.ini", "[flag]\nservers = a:1\n").file("/variable.ini", "[variable]\nservers = a:1\n");
    let made = made.variable("SDL_PROFILE", "/variable.ini");
    let profile = Profile::load(Some(Path::new("/flag.ini")), Arc::new(made)).unwrap();
    assert_eq!(profile.section_names().collect::<Vec<_>>(), ["flag"]);
}

#[test]
fn the_configuration_folder_is_that_of_the_home_without_xdg() {
    let made = Made::default().variable("HOME", "/home/me").file("/home/me/.config/sdl/database.ini", "[here]\nservers = a:1\n");
    assert_eq!(made.clone().load().unwrap().section_names().count(), 1);
    let relative = made.variable("XDG_CONFIG_HOME", "relative").load().unwrap();
    assert_eq!(relative.section_names().count(), 1, "a relative folder does not count");
}

#[test]
fn an_empty_variable_names_no_profile() {
    assert_eq!(profile("[a]\nservers = a:1\n").variable("SDL_PROFILE", "").load().unwrap().section_names().count(), 1);
}

#[test]
fn the_readme_profile_is_read_whole() {
    let text = "\
[remote_kafka]
servers = broker-1:9092,broker-2:9092
username = loader
password = ${env:REMOTE_KAFKA_PASSWORD}
security_protocol = SASL_SSL
sasl_mechanism = SCRAM-SHA-512
default_consumer_group_id = remote-consumer-group
default_consumer_topic = source-topic
kafka.fetch.max.bytes = 52428800

[mongodb]
host = localhost
port = 27018
default_db_name = glamira
default_collection_name = raw
consumer_group_id = mongo-loader

[elasticsearch]
url = http://a:9200, http://b:9200/
default_index = user-login

[shape.login]
default.device_type = unknown
mask_ip = ip

[run.sink-mongo]
batch = 500
dead_letters = topic:raw-dead-letters
";
    let profile = profile(text).variable("REMOTE_KAFKA_PASSWORD", "secret").load().unwrap();
    let kafka = profile.kafka("remote_kafka").unwrap();
    assert_eq!(kafka.name, "remote_kafka");
    assert_eq!(kafka.servers, "broker-1:9092,broker-2:9092");
    assert_eq!(kafka.password.as_ref().unwrap().reveal(), "secret");
    assert_eq!((kafka.protocol(), kafka.mechanism()), ("SASL_SSL", Some("SCRAM-SHA-512")));
    assert_eq!(kafka.default_consumer_group_id.as_deref(), Some("remote-consumer-group"));
    assert_eq!(kafka.default_consumer_topic.as_deref(), Some("source-topic"));
    assert_eq!(kafka.default_producer_topic, None);
    assert_eq!((kafka.properties[0].0.as_str(), kafka.properties[0].1.reveal()), ("fetch.max.bytes", "52428800"));

    let mongo = profile.mongo("mongodb").unwrap();
    assert_eq!((mongo.host.as_deref(), mongo.port), (Some("localhost"), 27018));
    assert_eq!((mongo.default_database.as_deref(), mongo.default_collection.as_deref()), (Some("glamira"), Some("raw")));
    assert_eq!(mongo.consumer_group_id.as_deref(), Some("mongo-loader"));

    let elastic = profile.elastic("elasticsearch").unwrap();
    assert_eq!(elastic.urls, ["http://a:9200", "http://b:9200"]);
    assert_eq!(elastic.login, ElasticLogin::None);

    let shape = profile.shape("login").unwrap();
    assert_eq!(shape, [("default.device_type".to_owned(), "unknown".to_owned()), ("mask_ip".to_owned(), "ip".to_owned())]);
    assert_eq!(profile.shape("logout"), None);

    let run = profile.run("sink-mongo").unwrap();
    assert_eq!((run[0].key.as_str(), run[0].value.as_str()), ("batch", "500"));
    assert_eq!(run[1].origin, Origin::File { path: "./database.ini".into(), line: 28 });
    assert_eq!(profile.run("tail").unwrap(), []);
}

#[test]
fn a_value_arrives_as_it_was_written() {
    for value in
        [r"p\wd", r#""x""#, "'x'", "a#b", "a ; b", "# a", "a=b:c", r"ends\", "$HOME ${HOME} $", "pä§wörd", "%(x)s", "a\tb"]
    {
        let section = kafka(&format!("servers = a:1\npassword = {value}\nusername = u\n")).unwrap();
        assert_eq!(section.password.unwrap().reveal(), value);
        assert_eq!(section.username.as_deref(), Some("u"), "the line after `{value}` is a line of its own");
    }
}

#[test]
fn blanks_comments_and_line_ends_of_any_kind_are_passed_over() {
    let section = kafka("\r\n  # servers = b:1\r\n; servers = c:1\r\n\tservers:a:1  \r\ncluster_id=u\r\n").unwrap();
    assert_eq!((section.servers.as_str(), section.cluster_id.as_deref()), ("a:1", Some("u")));
    let marked = profile("\u{feff}[local_kafka]\nservers = a:1\n").load().unwrap();
    assert_eq!(marked.section_names().collect::<Vec<_>>(), ["local_kafka"], "a byte order mark is no part of a name");
}

#[test]
fn a_variable_wins_over_the_file() {
    let made = profile("[local_kafka]\nservers = a:1\nkafka.socket.timeout.ms = 1\n[my-kafka.eu]\nservers = b:1\n")
        .variable("SDL_LOCAL_KAFKA_SERVERS", "x:1")
        .variable("SDL_LOCAL_KAFKA_KAFKA_SOCKET_TIMEOUT_MS", "2")
        .variable("SDL_LOCAL_KAFKA_KAFKA_FETCH_MAX_BYTES", "3")
        .variable("SDL_MY_KAFKA_EU_SERVERS", "y:1")
        .load()
        .unwrap();
    let kafka = made.kafka("local_kafka").unwrap();
    assert_eq!(kafka.servers, "x:1");
    let properties: Vec<_> = kafka.properties.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(properties, [("socket.timeout.ms", "2"), ("fetch.max.bytes", "3")]);
    assert_eq!(made.kafka("my-kafka.eu").unwrap().servers, "y:1");
}

#[test]
fn an_empty_value_is_none() {
    let made = profile("[local_kafka]\nservers = a:1\nusername = u\npassword =\n").variable("SDL_LOCAL_KAFKA_USERNAME", "");
    let section = made.load().unwrap().kafka("local_kafka").unwrap();
    assert_eq!((section.username, section.password), (None, None));
    assert_eq!(cause(kafka("servers =\n")), "missing key `servers`");
}

#[test]
fn a_section_can_come_from_variables_alone() {
    let made = Made::default().variable("SDL_REMOTE_KAFKA_SERVERS", "a:1").variable("SDL_STAGING_SERVERS", "b:1");
    let made = made.variable("SDL_RUN_TAIL_FOLLOW", "true");
    let profile = made.load().unwrap();
    assert_eq!(profile.section_names().collect::<Vec<_>>(), ["remote_kafka"], "others are found when they are asked for");
    assert_eq!(profile.kafka("remote_kafka").unwrap().servers, "a:1");
    assert_eq!(profile.kafka("staging").unwrap().servers, "b:1");
    assert_eq!(profile.run("tail").unwrap()[0].value, "true");
}

#[test]
fn variables_of_nobody_are_nobodys_business() {
    let made = profile("[local_kafka]\nservers = a:1\n")
        .variable("SDL_VIDEODRIVER", "x11")
        .variable("SDL_AUDIO_DRIVER", "alsa")
        .variable("SDL_LOCAL", "x")
        .variable("SDL_LOCAL_KAFKA_", "x");
    assert_eq!(made.load().unwrap().kafka("local_kafka").unwrap().servers, "a:1");
}

#[test]
fn a_variable_belongs_to_the_section_with_the_longest_fitting_name() {
    let made = profile("[kafka]\nservers = a:1\n[kafka_eu]\nservers = b:1\n").variable("SDL_KAFKA_EU_SERVERS", "c:1");
    let profile = made.load().unwrap();
    assert_eq!(
        (profile.kafka("kafka").unwrap().servers.as_str(), profile.kafka("kafka_eu").unwrap().servers.as_str()),
        ("a:1", "c:1")
    );
}

#[test]
fn references_are_expanded_once() {
    let made = profile("[local_kafka]\nservers = ${env:HOST}:${env:PORT}\nusername = u\npassword = ${file:/run/password}\n")
        .variable("HOST", "${env:PORT}")
        .variable("PORT", "9092")
        .file("/run/password", "  ${env:PORT}\\ \r\n");
    let section = made.load().unwrap().kafka("local_kafka").unwrap();
    assert_eq!(section.servers, "${env:PORT}:9092");
    assert_eq!(section.password.unwrap().reveal(), "  ${env:PORT}\\ ", "all but the last line break is the secret");
}

#[test]
fn a_missing_reference_stops_only_who_needs_it() {
    let text = "[local_kafka]\nservers = a:1\n[remote_kafka]\nservers = b:1\nusername = u\npassword = ${env:GONE}\n";
    let profile = profile(text).load().unwrap();
    assert!(profile.kafka("local_kafka").is_ok());
    let error = profile.kafka("remote_kafka").unwrap_err();
    assert_eq!(error.to_string(), "cannot read section `remote_kafka`");
    assert_eq!(error.causes(), ["key `password` at ./database.ini:6 needs the variable `GONE`, which is not set"]);
    assert_eq!(
        cause(kafka("servers = ${file:/gone}\n")),
        "key `servers` at ./database.ini:2 needs the file `/gone`: there is no such file"
    );
    assert_eq!(cause(kafka("servers = ${env:X\n")), "key `servers` at ./database.ini:2 has a `${` without its `}`");
}

#[test]
fn a_missing_key_says_where_to_put_it() {
    let error = kafka("username = u\n").unwrap_err();
    assert_eq!(error.to_string(), "cannot read section `local_kafka`");
    assert_eq!(error.causes(), ["missing key `servers`"]);
    let hint = "add `servers = host:9092` under [local_kafka] in ./database.ini, or set SDL_LOCAL_KAFKA_SERVERS";
    assert_eq!(error.hint().as_deref(), Some(hint));
}

#[test]
fn a_missing_section_says_where_to_put_it() {
    let hint = |made: Made| made.load().unwrap().kafka("local_kafka").unwrap_err().hint().unwrap();
    assert_eq!(hint(Made::default()), "run `sdl profile init`, or set SDL_LOCAL_KAFKA_SERVERS");
    let expected = "add [local_kafka] with `servers = host:9092` to ./database.ini, or set SDL_LOCAL_KAFKA_SERVERS";
    assert_eq!(hint(profile("[mongodb]\nhost = a\n")), expected);
    assert_eq!(hint(profile("[local-kafka]\nservers = a:1\n")), "did you mean `local-kafka`?");
}

#[test]
fn what_a_section_is_follows_from_its_keys_or_its_type() {
    let text = "[a]\nservers = x:1\n[b]\nuri = mongodb://x\n[c]\nhost = x\n[d]\nurl = http://x\n[my-opensearch]\nurl = http://x\n\
                [e]\ntype = opensearch\nurl = http://x\n[f]\nusername = u\n[shape.s]\nx = y\n[run.tail]\nx = y\n[remote_kafka]\n";
    let profile = profile(text).load().unwrap();
    let kinds: Vec<_> = ["a", "b", "c", "d", "my-opensearch", "e", "f", "shape.s", "run.tail", "remote_kafka"]
        .map(|name| profile.kind(name))
        .to_vec();
    let expected = [
        Some(Kind::Kafka),
        Some(Kind::Mongodb),
        Some(Kind::Mongodb),
        Some(Kind::Elasticsearch),
        Some(Kind::Opensearch),
        Some(Kind::Opensearch),
        None,
        Some(Kind::Shape),
        Some(Kind::Run),
        Some(Kind::Kafka),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(profile.names_of(Kind::Opensearch).collect::<Vec<_>>(), ["my-opensearch", "e"]);
    let wrong = profile.kafka("b").unwrap_err();
    assert_eq!(wrong.causes(), ["it is a section of type `mongodb`, and `kafka` is needed here"]);
}

#[test]
fn every_property_that_the_promise_rests_on_is_refused() {
    let owned = [
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "group.id",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "auto.offset.reset",
        "bootstrap.servers",
        "metadata.broker.list",
    ];
    for property in owned {
        let error = kafka(&format!("servers = a:1\nkafka.{property} = 1\n")).unwrap_err();
        let hint = error.hint().unwrap();
        assert!(error.causes()[0].contains("is set by sdl itself"), "{property}");
        assert!(hint.starts_with("use ") || hint.starts_with("remove it: "), "{property}: {hint}");
    }
    assert!(kafka("servers = a:1\nkafka.linger.ms = 5\n").is_ok());
}

#[test]
fn a_value_that_its_key_does_not_take_is_told_without_it() {
    for (lines, expected) in [
        ("servers = a:1\nsecurity_protocol = canary\n", "one of `PLAINTEXT`, `SASL_PLAINTEXT`, `SSL`, `SASL_SSL`"),
        ("servers = a:1\nsasl_mechanism = canary\n", "one of `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`"),
        ("servers = a:1\nprotect = canary\n", "one of `off`, `confirm`, `readonly`"),
    ] {
        let cause = cause(kafka(lines));
        assert!(cause.ends_with(&format!("at ./database.ini:3 is not {expected}")), "{cause}");
        assert!(!cause.contains("canary"));
    }
    let mongo = |lines: &str| cause(profile(&format!("[mongodb]\n{lines}")).load().unwrap().mongo("mongodb"));
    assert_eq!(mongo("host = a\nport = 0\n"), "key `port` at ./database.ini:3 is not a port between 1 and 65535");
    assert_eq!(mongo("host = a\ntls = yes\n"), "key `tls` at ./database.ini:3 is not one of `true`, `false`");
    assert_eq!(mongo("host = a\nuri = mongodb://a\n"), "key `host` at ./database.ini:2 is not wanted beside `uri`");
    let elastic = |lines: &str| cause(profile(&format!("[elasticsearch]\n{lines}")).load().unwrap().elastic("elasticsearch"));
    assert!(elastic("url = localhost:9200\n").contains("is not `http://host:9200`"));
    assert!(
        elastic("url = http://u:canary@a:9200\n")
            .ends_with("is not a URL without user and password, which have keys of their own")
    );
    assert!(elastic("url = http://a\nusername = u\napi_key = k\n").ends_with("is not wanted beside `username` or `bearer`"));
    assert_eq!(elastic("url = http://a\nusername = u\n"), "missing key `password`");
}

#[test]
fn words_are_taken_in_any_case() {
    let section = kafka("servers = a:1\nsecurity_protocol = sasl_ssl\nsasl_mechanism = scram-sha-256\nprotect = ReadOnly\nusername = u\npassword = p\n").unwrap();
    assert_eq!(
        (section.protocol(), section.mechanism(), section.protect),
        ("SASL_SSL", Some("SCRAM-SHA-256"), Protect::ReadOnly)
    );
}

#[test]
fn a_username_alone_means_sasl_plaintext_and_plain_with_a_warning_off_this_machine() {
    for (servers, warned) in
        [("localhost:9092", 0), ("127.0.0.1:9092, [::1]:9092", 0), ("broker:9092", 1), ("localhost:1,broker:1", 1)]
    {
        let section = kafka(&format!("servers = {servers}\nusername = u\npassword = p\n")).unwrap();
        assert_eq!((section.protocol(), section.mechanism()), ("SASL_PLAINTEXT", Some("PLAIN")));
        assert_eq!(section.warnings().len(), warned, "{servers}");
    }
    assert!(
        kafka("servers = broker:1\nusername = u\npassword = p\nsecurity_protocol = SASL_PLAINTEXT\n")
            .unwrap()
            .warnings()
            .is_empty()
    );
    assert_eq!(kafka("servers = a:1\n").unwrap().protocol(), "PLAINTEXT");
    assert_eq!(cause(kafka("servers = a:1\nsecurity_protocol = SASL_SSL\n")), "missing key `username`");
    assert_eq!(cause(kafka("servers = a:1\nusername = u\n")), "missing key `password`");
}

#[test]
fn whoever_turns_verification_off_is_warned() {
    let insecure =
        profile("[elasticsearch]\nurl = https://a\ninsecure = true\n").load().unwrap().elastic("elasticsearch").unwrap();
    assert_eq!(insecure.warnings().len(), 1);
    let off = kafka("servers = a:1\nkafka.enable.ssl.certificate.verification = false\n").unwrap();
    assert_eq!(off.warnings().len(), 1);
}

#[test]
fn a_secret_that_others_can_read_draws_a_warning() {
    let literal = "[local_kafka]\nservers = a:1\nusername = u\npassword = canary\n";
    let exposed = profile(literal).exposed().load().unwrap();
    let expected = "others can read `./database.ini`, which holds secrets of `local_kafka`: run `chmod 600 ./database.ini`";
    assert_eq!(exposed.warnings(), [expected]);
    assert!(profile(literal).load().unwrap().warnings().is_empty());
    let reference = "[local_kafka]\nservers = a:1\nusername = u\npassword = ${env:X}\n";
    assert!(profile(reference).exposed().load().unwrap().warnings().is_empty());
}

#[test]
fn the_warning_is_on_stderr_unless_quiet() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\nusername = u\npassword = canary\n");
    folder.mode("database.ini", 0o644);
    let warning =
        "warning: others can read `./database.ini`, which holds secrets of `local_kafka`: run `chmod 600 ./database.ini`\n";
    assert_eq!(folder.run("profile list").stderr, warning);
    assert_eq!(folder.run("profile list -q").stderr, "");
}

#[test]
fn list_shows_what_each_section_is_and_where() {
    let folder = Folder::with_profile(
        "[local_kafka]\nservers = localhost:9092\n\n[mongodb]\nuri = mongodb://u:canary@a:1,b:2/x?y=z\n[shape.login]\nmask = user_id\n[old]\nusername = x\n",
    );
    let ended = ended(folder.sdl("profile").env("SDL_ELASTICSEARCH_URL", "http://e:9200"));
    let expected = "\
SECTION        TYPE           SERVERS            FROM
local_kafka    kafka          localhost:9092     ./database.ini:1
mongodb        mongodb        mongodb://a:1,b:2  ./database.ini:4
shape.login    shape                             ./database.ini:6
old            -                                 ./database.ini:8
elasticsearch  elasticsearch  http://e:9200      variables
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), (expected, "", Some(0)));
    let json: serde_json::Value = serde_json::from_str(&folder.run("profile list -o json").stdout).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["profile"], "./database.ini");
    assert_eq!(json["sections"][1]["servers"], "mongodb://a:1,b:2");
    assert_eq!(json["sections"][3]["type"], serde_json::Value::Null);
}

#[test]
fn show_tells_where_each_value_comes_from() {
    let folder = Folder::with_profile(
        "[local_kafka]\nservers = localhost:9092\nusername = u\npassword = canary\nkafka.sasl.oauthbearer.config = canary\n",
    );
    let ended = ended(
        folder.sdl("profile show local_kafka").env("SDL_LOCAL_KAFKA_USERNAME", "v").env("SDL_LOCAL_KAFKA_CLUSTER_ID", "abc"),
    );
    let expected = "\
SECTION      KEY                            VALUE           FROM
local_kafka  servers                        localhost:9092  ./database.ini:2
local_kafka  username                       v               SDL_LOCAL_KAFKA_USERNAME
local_kafka  password                       ***             ./database.ini:4
local_kafka  kafka.sasl.oauthbearer.config  ***             ./database.ini:5
local_kafka  cluster_id                     abc             SDL_LOCAL_KAFKA_CLUSTER_ID
local_kafka  security_protocol              SASL_PLAINTEXT  default
local_kafka  sasl_mechanism                 PLAIN           default
local_kafka  protect                        off             default
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), (expected, "", Some(0)));
    let json: serde_json::Value = serde_json::from_str(&folder.run("profile show -o json").stdout).unwrap();
    assert_eq!(
        json["values"][2],
        serde_json::json!({"section": "local_kafka", "key": "password", "value": "***", "from": "./database.ini:4"})
    );
}

/// The example in the tree: its lines with the comment sign in front of every key taken away.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("database.ini.example");
    let uncommented = |line: &str| {
        line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#']) && rest.contains(" = ")).unwrap_or(line).to_owned()
    };
    std::fs::read_to_string(path).unwrap().lines().map(|line| uncommented(line) + "\n").collect()
}

#[test]
fn the_example_is_a_profile_as_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("database.ini.example");
    let profile = profile(&std::fs::read_to_string(path).unwrap()).load().unwrap();
    for name in ["remote_kafka", "local_kafka"] {
        assert!(profile.kind(name) == Some(Kind::Kafka), "{name}");
    }
}

#[test]
fn the_example_names_every_key() {
    let example = example();
    for kind in SERVERS {
        for key in kind.keys() {
            assert!(
                example.lines().any(|line| line.starts_with(&format!("{} = ", key.name))),
                "{}: `{}`",
                kind.as_str(),
                key.name
            );
        }
    }
    for key in
        example.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).filter(|key| !key.starts_with(['#', ';']))
    {
        let known = SERVERS.iter().flat_map(|kind| kind.keys()).any(|known| known.name == key || known.alias == Some(key));
        let of_shape_or_run = example.split("[shape.").nth(1).is_some_and(|rest| rest.contains(&format!("{key} = ")));
        assert!(known || key.starts_with("kafka.") || of_shape_or_run, "`{key}` is no key");
    }
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_.-]{0,12}"
}

fn value() -> impl Strategy<Value = String> {
    // Anything a line can hold, without the blanks around it.
    r"[^\p{Cc}\p{Z}]([^\p{Cc}\u{2028}\u{2029}]{0,20}[^\p{Cc}\p{Z}])?"
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(values in proptest::collection::btree_map(word(), value(), 1..8), padding in " {0,3}") {
        let lines: String = values.iter().map(|(key, value)| format!("{padding}{key}{padding}={padding}{value}{padding}\n")).collect::<Vec<_>>().concat();
        let profile = profile(&format!("[run.x]\n{lines}")).load();
        prop_assume!(!lines.contains("${"));
        let read: Vec<_> = profile.unwrap().run("x").unwrap().into_iter().map(|value| (value.key, value.value)).collect();
        prop_assert_eq!(read, values.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\n|\\[|\\]|=|#){0,200}") {
        let _ = profile(&text).load();
    }

    #[test]
    fn an_ordinary_profile_reads_like_any_ini(values in proptest::collection::btree_map("[a-z]{1,8}", "[a-zA-Z0-9/._-]{1,12}", 1..8)) {
        let lines: String = values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect::<Vec<_>>().concat();
        let text = format!("; comment\n[run.x]\n{lines}");
        let known = ini::Ini::load_from_str(&text).unwrap();
        let read = profile(&text).load().unwrap().run("x").unwrap();
        prop_assert_eq!(read.len(), known.section(Some("run.x")).unwrap().len());
        for value in read {
            prop_assert_eq!(known.get_from(Some("run.x"), &value.key), Some(value.value.as_str()));
        }
    }
}
