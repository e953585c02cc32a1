//! The settings of a topic, as the admin client asks a broker for them.

use std::time::Duration;

use sdl::connectors::kafka::{Admin, Targets, TopicLimits};
use sdl::error::Error;
use sdl::pipeline::ConnectorError;
use sdl::profile::KafkaSection;
use sdl::record::Topic;

use crate::harness::KafkaStub;

/// The error codes of Kafka's protocol guide.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// Returns the limits of the topic `orders`, from its settings.
async fn limits(stub: &KafkaStub) -> Result<TopicLimits, ConnectorError> {
    let section = KafkaSection { name: "local_kafka".to_owned(), servers: stub.servers(), ..KafkaSection::default() };
    let admin = Admin::connect(&section, Duration::from_secs(60)).await?;
    let (topic, targets) = (Topic::named("orders"), Targets::default());
    admin.load_topic_limits(topic, &targets).await?;
    let limits = targets.read().unwrap()[&topic];
    Ok(limits)
}

#[tokio::test]
async fn the_settings_of_a_topic_that_the_broker_does_not_know_yet_are_requested_again() {
    let stub = KafkaStub::start("orders", |before| match before {
        0 | 1 => Err(UNKNOWN_TOPIC_OR_PARTITION),
        _ => Ok(&[("max.message.bytes", "1000"), ("cleanup.policy", "compact")]),
    });
    let expected = TopicLimits { max_message_bytes: Some(1_000), needs_key: true, timestamps: None };
    assert_eq!(limits(&stub).await.unwrap(), expected);
    assert_eq!(stub.asked(), 3);
}

#[tokio::test]
async fn settings_that_may_not_be_read_are_requested_once_and_leave_the_limits_unknown() {
    let stub = KafkaStub::start("orders", |_| Err(TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(limits(&stub).await.unwrap(), TopicLimits::default());
    assert_eq!(stub.asked(), 1);
}

#[tokio::test]
async fn a_lasting_error_of_a_request_for_settings_is_not_retried() {
    let stub = KafkaStub::start("orders", |_| Err(INVALID_TOPIC));
    let error = Error::from(limits(&stub).await.unwrap_err()).render();
    assert!(error.starts_with("error: cannot describe the configuration of topic `orders` of `local_kafka`\n"), "{error}");
    assert_eq!(stub.asked(), 1);
}
