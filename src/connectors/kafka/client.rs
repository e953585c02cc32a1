//! From a profile section to a librdkafka client, and from its errors to ours.

use rdkafka::ClientConfig;

use crate::profile::KafkaSection;

/// Returns the configuration that every client of `section` shares.
#[must_use]
pub(crate) fn base_config(section: &KafkaSection) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &section.servers);
    for (name, value) in &section.properties {
        config.set(name, value.reveal());
    }
    config
}
