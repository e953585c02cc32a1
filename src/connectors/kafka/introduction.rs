//! What a bootstrap server says first: the requests that it answers, and the brokers of the cluster.
//!
//! librdkafka forgets a bootstrap server as soon as it knows the brokers, and further requests go to their advertised addresses, which
//! may be out of reach. So both are taken from its log of the first answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::admin::blocking;
use crate::connectors::kafka::api_versions::ApiVersions;
use crate::connectors::kafka::client_log::{ClientLog, KeepsLog};
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::plain_addresses;
use crate::pipeline::ConnectorError;
use crate::profile::KafkaSection;

/// How long one poll of the client waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// A broker, and the address that it advertises to the clients of the listener that was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AdvertisedBroker {
    pub(crate) id: i32,
    /// `host:port`.
    pub(crate) address: String,
}

/// The first answers of a bootstrap server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) versions: ApiVersions,
    /// By their ids.
    pub(crate) brokers: Vec<AdvertisedBroker>,
}

impl Introduction {
    fn note(&mut self, line: &str) {
        self.versions.note(line);
        if let Some(broker) = advertised(line)
            && !self.brokers.contains(&broker)
        {
            self.brokers.push(broker);
            self.brokers.sort_unstable();
        }
    }
}

/// Parses `HOST:PORT/bootstrap:   Broker #0/3: HOST:PORT NodeId 1`.
fn advertised(line: &str) -> Option<AdvertisedBroker> {
    let (_, rest) = line.split_once("Broker #")?;
    let (_, rest) = rest.split_once(": ")?;
    let (address, id) = rest.split_once(" NodeId ")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    Some(AdvertisedBroker { id: id.trim().parse().ok()?, address: format!("{host}:{port}") })
}

#[derive(Clone, Default)]
struct IntroductionLog(Arc<Mutex<Introduction>>);

impl ClientContext for IntroductionLog {
    fn log(&self, _: RDKafkaLogLevel, _: &str, message: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(&plain_addresses(message));
    }
}

impl KeepsLog for IntroductionLog {
    fn client_log(&self) -> Option<ClientLog> {
        None
    }
}

impl ProducerContext for IntroductionLog {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Returns what the first server to answer within `wait` says; what it does not say is empty.
///
/// # Errors
/// When the client cannot be created.
pub(crate) async fn read_introduction(section: &KafkaSection, wait: Duration) -> Result<Introduction, ConnectorError> {
    let mut config = client_config(section)?;
    config.set("debug", "feature,metadata").set_log_level(RDKafkaLogLevel::Debug);
    let log = IntroductionLog::default();
    let client: Authenticated<BaseProducer<IntroductionLog>> = create_client(section, &config, log.clone())?;
    blocking(move || {
        let deadline = Instant::now() + wait;
        let noted = || log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loop {
            // The lines of an answer arrive together, by polling.
            let answered = client.client().fetch_cluster_id(POLL_TIMEOUT).is_some();
            client.poll(POLL_TIMEOUT);
            if (answered && !noted().brokers.is_empty()) || Instant::now() >= deadline {
                return noted();
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_the_first_answers_names_versions_and_brokers() {
        let mut introduction = Introduction::default();
        for line in [
            "[thrd:a:1/bootstrap]: a:1/bootstrap:   ApiKey Fetch (1) Versions 4..17",
            "[thrd:a:1/bootstrap]: a:1/bootstrap:   Broker #0/3: kafka:9092 NodeId 2",
            "[thrd:a:1/bootstrap]: a:1/bootstrap:   Broker #1/3: ::1:9093 NodeId 1",
            "[thrd:a:1/bootstrap]: a:1/bootstrap:   Broker #0/3: kafka:9092 NodeId 2",
            "[thrd:a:1/bootstrap]: a:1/bootstrap: 3 brokers, 2 topics",
        ] {
            introduction.note(line);
        }
        let broker = |id, address: &str| AdvertisedBroker { id, address: address.to_owned() };
        assert_eq!(introduction.brokers, [broker(1, "[::1]:9093"), broker(2, "kafka:9092")]);
        assert_eq!(introduction.versions.release(), Some("Kafka 4.0"));
    }
}
