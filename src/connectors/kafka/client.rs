//! From a profile section to a librdkafka client, and from what librdkafka says to our own words.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::connectors::kafka::client_log::ClientLog;
use crate::connectors::kafka::{certificate, diagnosis};
use crate::pipeline::{ConnectorError, Failure, Refused};
use crate::profile::{KafkaSection, Secret};

/// How long one look at a cluster that has not answered yet takes.
const LOOK: Duration = Duration::from_millis(250);

/// How long a second look at a certificate that was not good takes at most.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(3);

/// Returns the configuration that every client of `section` shares.
#[must_use]
pub fn base_config(section: &KafkaSection) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &section.servers);
    // That a broker hung up is said at this level.
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("client.id", "sdl");
    config.set("security.protocol", section.protocol().to_ascii_lowercase());
    // The default of 10 s is too long to wait after a restart of a broker.
    config.set("reconnect.backoff.max.ms", "500");
    if let Some(mechanism) = section.mechanism() {
        // The library knows this property by two names, and the profile may have used either.
        if !section.properties.iter().any(|(name, _)| name.starts_with("sasl.mechanism")) {
            config.set("sasl.mechanism", mechanism);
        }
        if let (Some(username), Some(password)) = (&section.username, &section.password) {
            config.set("sasl.username", username).set("sasl.password", password.reveal());
        }
    }
    if section.protocol().ends_with("SSL") {
        // The vendored OpenSSL does not know where the machine keeps its certificates.
        config.set("ssl.ca.location", section.ssl_ca_location.as_deref().unwrap_or("probe"));
        let files = [
            ("ssl.certificate.location", section.ssl_certificate_location.as_deref()),
            ("ssl.key.location", section.ssl_key_location.as_deref()),
            ("ssl.key.password", section.ssl_key_password.as_ref().map(Secret::reveal)),
        ];
        for (property, value) in files {
            if let Some(value) = value {
                config.set(property, value);
            }
        }
    }
    for (name, value) in &section.properties {
        config.set(name, value.reveal());
    }
    config
}

/// Returns the configuration that every client of `section` shares, once its files and properties have been looked at.
///
/// # Errors
/// As [`check`].
pub(crate) fn config(section: &KafkaSection) -> Result<ClientConfig, Failure> {
    check(section)?;
    Ok(base_config(section))
}

/// Gives a consumer that asks for the offsets of groups the name of one. It is not joined, and nothing is committed; but when a
/// coordinator moves, librdkafka 2.12 looks at the client's own group without looking whether there is one, and crashes.
pub(crate) fn name_group(config: &mut ClientConfig, section: &KafkaSection, asked: Option<&str>) {
    let group = asked.or(section.default_consumer_group_id.as_deref()).filter(|group| !group.is_empty());
    config.set("group.id", group.unwrap_or("sdl")).set("enable.auto.commit", "false");
}

/// A context that only listens: for clients that have nothing else to hear of.
#[derive(Clone, Debug, Default)]
pub struct LogContext {
    /// What was heard.
    pub client_log: ClientLog,
}

impl ClientContext for LogContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client_log.log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client_log.error(&error, reason);
    }
}

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A cluster that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMetadata {
    /// Its id, if it has one.
    pub id: Option<String>,
}

/// Waits at most `wait` for a first answer of the section's cluster and returns what it says about itself.
///
/// # Errors
/// When a file cannot be read, a property is wrong, or nothing good came back in time: with the host, the step and a hint. A wrong
/// password or certificate fails at once. Refuses a cluster whose id is not the section's `cluster_id`.
pub async fn reach(section: &KafkaSection, wait: Duration) -> Result<ClusterMetadata, ConnectorError> {
    check(section)?;
    let section = section.clone();
    let reached = tokio::task::spawn_blocking(move || reach_blocking(&section, wait)).await;
    reached.unwrap_or_else(|error| Err(Failure::new("the connection test was cut short").because(error).into()))
}

fn reach_blocking(section: &KafkaSection, wait: Duration) -> Result<ClusterMetadata, ConnectorError> {
    let said = ClientLog::default();
    let client = BaseProducer::from_config_and_context(&base_config(section), LogContext { client_log: said.clone() })
        .map_err(|error| wrong_property(section, &error))?;
    let deadline = Instant::now() + wait;
    loop {
        if let Some(id) = client.client().fetch_cluster_id(LOOK) {
            return same_cluster(section, Some(id));
        }
        // What librdkafka has to say is heard by polling only.
        client.poll(Duration::ZERO);
        // A cluster without an id answers this instead.
        if said.lines().is_empty() && client.client().fetch_metadata(None, LOOK).is_ok() {
            return same_cluster(section, None);
        }
        let lines = said.lines();
        if diagnosis::is_lasting(section, &lines) || Instant::now() >= deadline {
            let certificate = lines.iter().any(|line| line.contains("certificate verify failed"));
            let flaw = certificate.then(|| certificate::flaw(section, LOOK_AT_CERTIFICATE)).flatten();
            return Err(diagnosis::diagnose(section, &lines, flaw, wait).into());
        }
    }
}

fn same_cluster(section: &KafkaSection, id: Option<String>) -> Result<ClusterMetadata, ConnectorError> {
    let (Some(wanted), name) = (&section.cluster_id, &section.name) else { return Ok(ClusterMetadata { id }) };
    if id.as_ref() == Some(wanted) {
        return Ok(ClusterMetadata { id });
    }
    let found = id.unwrap_or_else(|| "none".to_owned());
    Err(ConnectorError::Refused(Refused {
        what: format!("`{name}` is not the cluster that the profile names"),
        numbers: vec![format!("cluster_id in the profile: {wanted}"), format!("cluster id of {}: {found}", section.servers)],
        hint: format!("correct `servers` or `cluster_id` under [{name}]"),
    }))
}

/// Looks at what can be wrong before a connection is tried: files and properties.
///
/// # Errors
/// When a file cannot be read, or librdkafka does not take a property.
pub fn check(section: &KafkaSection) -> Result<(), Failure> {
    let files = [
        ("ssl_ca_location", &section.ssl_ca_location),
        ("ssl_certificate_location", &section.ssl_certificate_location),
        ("ssl_key_location", &section.ssl_key_location),
    ];
    for (key, file) in files {
        let Some(file) = file else { continue };
        let readable = std::fs::metadata(file)
            .and_then(|meta| if meta.is_dir() { Ok(()) } else { std::fs::File::open(Path::new(file)).map(drop) });
        readable.map_err(|error| {
            Failure::new(format!("cannot connect to `{}`", section.name))
                .because(format!("cannot read the file `{file}` of `{key}`: {}", crate::profile::reason(&error)))
                .hint(format!("correct `{key}` under [{}]", section.name))
        })?;
    }
    base_config(section).create_native_config().map(drop).map_err(|error| wrong_property(section, &error))
}

/// Returns the failure of a client that could not even be made. The library's message can quote a value; the property cannot.
fn wrong_property(section: &KafkaSection, error: &KafkaError) -> Failure {
    let failure = Failure::new(format!("cannot connect to `{}`", section.name));
    match error {
        KafkaError::ClientConfig(_, _, property, _) if !property.is_empty() => {
            failure.because(format!("librdkafka does not take `kafka.{property}` as it is set")).hint(format!(
                "correct `kafka.{property}` under [{}]; librdkafka's CONFIGURATION.md lists the properties",
                section.name
            ))
        }
        KafkaError::ClientCreation(reason) => diagnosis::diagnose_creation(section, reason),
        _ => failure.because("librdkafka does not take the configuration"),
    }
}
