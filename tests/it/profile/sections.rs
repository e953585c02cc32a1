//! Which sections there are, what they are, and what they need.

use sdl::error::Error;
use sdl::profile::{ElasticLogin, Origin, SectionKind};

use super::{Made, kafka, profile};

#[test]
fn every_section_of_the_readme_profile_is_read() {
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

    let shape = profile.shape("login").unwrap().unwrap();
    assert_eq!(shape, [("default.device_type".to_owned(), "unknown".to_owned()), ("mask_ip".to_owned(), "ip".to_owned())]);
    assert_eq!(profile.shape("logout").unwrap(), None);

    let run = profile.run("sink-mongo").unwrap();
    assert_eq!((run[0].key.as_str(), run[0].value.as_str()), ("batch", "500"));
    assert_eq!(run[1].origin, Origin::File { path: "./database.ini".into(), line: 28 });
    assert_eq!(profile.run("tail").unwrap(), []);
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
fn variables_without_a_section_are_ignored() {
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
fn the_error_for_a_missing_key_shows_where_to_add_it() {
    let error = kafka("username = u\n").unwrap_err();
    assert_eq!(error.to_string(), "cannot read section `local_kafka`");
    assert_eq!(error.causes(), ["missing key `servers`"]);
    let hint = "add `servers = host:9092` under [local_kafka] in ./database.ini, or set SDL_LOCAL_KAFKA_SERVERS";
    assert_eq!(Error::from(error).hint().as_deref(), Some(hint));
}

#[test]
fn the_error_for_a_missing_section_shows_where_to_add_it() {
    let hint = |made: Made| Error::from(made.load().unwrap().kafka("local_kafka").unwrap_err()).hint().unwrap();
    assert_eq!(hint(Made::default()), "run `sdl profile init`, or set SDL_LOCAL_KAFKA_SERVERS");
    let expected = "add [local_kafka] with `servers = host:9092` to ./database.ini, or set SDL_LOCAL_KAFKA_SERVERS";
    assert_eq!(hint(profile("[mongodb]\nhost = a\n")), expected);
    assert_eq!(hint(profile("[local-kafka]\nservers = a:1\n")), "did you mean `local-kafka`?");
}

#[test]
fn the_keys_or_the_type_determine_the_kind_of_a_section() {
    let text = "[a]\nservers = x:1\n[b]\nuri = mongodb://x\n[c]\nhost = x\n[d]\nurl = http://x\n[my-opensearch]\nurl = http://x\n\
                [e]\ntype = opensearch\nurl = http://x\n[f]\nusername = u\n[shape.s]\nx = y\n[run.tail]\nx = y\n[remote_kafka]\n";
    let profile = profile(text).load().unwrap();
    let kinds: Vec<_> = ["a", "b", "c", "d", "my-opensearch", "e", "f", "shape.s", "run.tail", "remote_kafka"]
        .map(|name| profile.kind(name))
        .to_vec();
    let expected = [
        Some(SectionKind::Kafka),
        Some(SectionKind::Mongodb),
        Some(SectionKind::Mongodb),
        Some(SectionKind::Elasticsearch),
        Some(SectionKind::Opensearch),
        Some(SectionKind::Opensearch),
        None,
        Some(SectionKind::Shape),
        Some(SectionKind::Run),
        Some(SectionKind::Kafka),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(profile.names_of(SectionKind::Opensearch).collect::<Vec<_>>(), ["my-opensearch", "e"]);
    let wrong = profile.kafka("b").unwrap_err();
    assert_eq!(wrong.causes(), ["the section has type `mongodb`, but `kafka` is needed here"]);
    let wrong = profile.elastic("b").unwrap_err();
    assert_eq!(wrong.causes(), ["the section has type `mongodb`, but `elasticsearch` or `opensearch` is needed here"]);
}

#[test]
fn properties_that_delivery_depends_on_are_refused() {
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
        assert!(error.causes()[0].contains("is managed by sdl"), "{property}");
        let hint = Error::from(error).hint().unwrap();
        assert!(hint.starts_with("use ") || hint.starts_with("remove it: "), "{property}: {hint}");
    }
    assert!(kafka("servers = a:1\nkafka.linger.ms = 5\n").is_ok());
}
