//! A secret is seen nowhere.

use sdl::error::Error;

use crate::profile::profile;
use crate::run::{Folder, ended};

const CANARY: &str = "canary7f3a";

/// A profile with a secret wherever one can be.
const PROFILE: &str = "\
[remote_kafka]
servers = a:1
username = u
password = canary7f3a
ssl_key_password = canary7f3a
mask_key = canary7f3a
kafka.ssl.key.password = canary7f3a
kafka.ssl.key.pem = canary7f3a
kafka.sasl.oauthbearer.client.secret = canary7f3a

[by_endpoint]
servers = a:1
sasl_mechanism = OAUTHBEARER
oauth_token_url = https://a/token
oauth_client_id = x
oauth_client_secret = canary7f3a

[by_command]
servers = a:1
sasl_mechanism = OAUTHBEARER
oauth_token_command = login --password canary7f3a

[by_proxy]
url = http://a:1
proxy = http://p:1
proxy_username = u
proxy_password = canary7f3a

[mongodb]
uri = mongodb://u:canary7f3a@a:1/?authSource=x

[other_mongo]
host = a
username = u
password = canary7f3a

[elasticsearch]
url = http://a:1
username = u
password = canary7f3a

[by_key]
url = http://a:1
api_key = canary7f3a

[by_token]
url = http://a:1
bearer = canary7f3a

[with_userinfo]
url = http://u:canary7f3a@a:1

[unknown_type]
password = canary7f3a

[shape.x]
mask_key = canary7f3a
";

fn assert_hidden(text: &str, what: &str) {
    assert!(!text.contains(CANARY), "{what} shows it: {text}");
}

#[test]
fn a_shown_profile_contains_no_secret() {
    let folder = Folder::with_profile(PROFILE);
    for arguments in ["profile list", "profile list -o json", "profile show", "profile show -o json", "profile show shape.x"] {
        let ended = folder.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments}: {}", ended.stderr);
        assert!(ended.stdout.lines().count() > 1);
        assert_hidden(&format!("{}{}", ended.stdout, ended.stderr), arguments);
    }
    assert!(folder.run("profile show").stdout.matches("***").count() >= 14);
}

#[test]
fn a_shown_variable_contains_no_secret() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\n");
    let ended = ended(folder.sdl("profile show").env("SDL_LOCAL_KAFKA_PASSWORD", CANARY).env("SDL_LOCAL_KAFKA_USERNAME", "u"));
    assert!(ended.stdout.contains("SDL_LOCAL_KAFKA_PASSWORD"));
    assert_hidden(&ended.stdout, "profile show");
}

#[test]
fn debug_output_contains_no_secret() {
    let profile = profile(PROFILE).load().unwrap();
    assert_hidden(&format!("{profile:?}"), "Profile");
    assert_hidden(&format!("{:?}", profile.kafka("remote_kafka").unwrap()), "KafkaSection");
    assert_hidden(&format!("{:?}", profile.kafka("by_endpoint").unwrap()), "KafkaSection");
    assert_hidden(&format!("{:?}", profile.mongo("mongodb").unwrap()), "MongoSection");
    assert_hidden(&format!("{:?}", profile.mongo("other_mongo").unwrap()), "MongoSection");
    for name in ["elasticsearch", "by_key", "by_token", "by_proxy"] {
        assert_hidden(&format!("{:?}", profile.elastic(name).unwrap()), name);
    }
}

#[test]
fn a_profile_error_contains_no_secret() {
    for text in [
        "[local_kafka]\nservers = a:1\npasword = canary7f3a\n",
        "[local_kafka]\nservers = a:1\npassword = canary7f3a\npassword = canary7f3a\n",
        "[local_kafka]\nservers = a:1\ncanary7f3a\n",
        "[local_kafka]\nservers = a:1\npassword = canary7f3a${env:GONE}\n",
        "[local_kafka]\nservers = a:1\npassword = canary7f3a${env:GONE\n",
        "[local_kafka]\nservers = a:1\nprotect = canary7f3a\n",
        "[local_kafka]\nservers = a:1\nkafka.sasl.password = canary7f3a\nkafka.acks = canary7f3a\n",
        "[local_kafka]\ntype = canary7f3a\n",
        "[local_kafka]\ntype = elasticsearch\nurl = http://u:canary7f3a@a:1\n",
        "[local_kafka]\ntype = mongodb\nhost = x\nport = canary7f3a\n",
    ] {
        let outcome = profile(text).load().and_then(|profile| match profile.kind("local_kafka") {
            Some(sdl::profile::SectionKind::Elasticsearch) => profile.elastic("local_kafka").map(drop),
            Some(sdl::profile::SectionKind::Mongodb) => profile.mongo("local_kafka").map(drop),
            _ => profile.kafka("local_kafka").map(drop),
        });
        let error = outcome.expect_err(text);
        assert_hidden(&format!("{error:?}"), text);
        assert_hidden(&Error::from(error).render(), text);
    }
}

#[test]
fn the_error_of_a_property_that_librdkafka_refuses_contains_no_secret() {
    for line in ["kafka.fetch.max.bytes = canary7f3a", "kafka.no.such.property = canary7f3a"] {
        let section = profile(&format!("[local_kafka]\nservers = a:1\n{line}\n")).load().unwrap().kafka("local_kafka").unwrap();
        let failure = sdl::connectors::kafka::check(&section).unwrap_err();
        assert!(
            ["librdkafka rejects the value of `kafka.", "librdkafka has no property `"]
                .iter()
                .any(|start| failure.causes[0].starts_with(start)),
            "{failure}"
        );
        assert_hidden(&Error::from(failure).render(), line);
    }
}
