//! The librdkafka configuration of a profile section.

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::client_log::KeepsLog;
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::token::LogsIn;
use crate::pipeline::{Failure, FailureKind};
use crate::profile::{KafkaSection, Secret};

/// Returns the configuration that every client of `section` shares.
#[must_use]
pub fn base_config(section: &KafkaSection) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &section.servers);
    // librdkafka logs a closed connection at this level.
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("client.id", "sdl");
    config.set("security.protocol", section.protocol().to_ascii_lowercase());
    // librdkafka refuses a maximum below the first pause.
    if !section.properties.iter().any(|(name, _)| name == "reconnect.backoff.max.ms") {
        // The default of 10 s delays recovery after the restart of a broker.
        config.set("reconnect.backoff.max.ms", "500");
        // A client that no broker answers tries one after half of this: by default, 20 times a second.
        config.set("reconnect.backoff.ms", "250");
    }
    if let Some(mechanism) = section.wire_mechanism() {
        // librdkafka accepts two names for this property.
        if !section.properties.iter().any(|(name, _)| name.starts_with("sasl.mechanism")) {
            config.set("sasl.mechanism", mechanism);
        }
        if let (Some(username), Some(password)) = (&section.username, &section.password) {
            config.set("sasl.username", username).set("sasl.password", password.reveal());
        }
    }
    if section.protocol().ends_with("SSL") {
        // The vendored OpenSSL does not know the CA directory of this machine.
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

/// Returns [`base_config`] after [`check`].
///
/// # Errors
/// As [`check`].
pub(crate) fn client_config(section: &KafkaSection) -> Result<ClientConfig, Failure> {
    check(section)?;
    Ok(base_config(section))
}

/// Creates a client, the only way in which one is created: it logs in with the tokens of the section, if it has any.
///
/// # Errors
/// When a file of the section is not what its key says, or librdkafka rejects a property.
pub(crate) fn create_client<C: KeepsLog, T: FromClientConfigAndContext<C> + LogsIn>(
    section: &KafkaSection,
    config: &ClientConfig,
    context: C,
) -> Result<Authenticated<T>, Failure> {
    let log = context.client_log();
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    let client = config.create_with_context(context).map_err(|error| creation_failure(section, &error))?;
    Authenticated::new(section, client, log)
}

/// Sets the `group.id` of a consumer that lists group offsets. The consumer neither joins nor commits; but when a coordinator
/// moves, librdkafka 2.12 dereferences the client's own group, and crashes if there is none.
pub(crate) fn set_group_id(config: &mut ClientConfig, section: &KafkaSection, group: Option<&str>) {
    let group = group.or(section.default_consumer_group_id.as_deref()).filter(|group| !group.is_empty());
    config.set("group.id", group.unwrap_or("sdl")).set("enable.auto.commit", "false");
}

/// Checks the files and properties of a section, before any connection.
///
/// # Errors
/// When a file cannot be read, or librdkafka rejects a property.
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
    base_config(section).create_native_config().map(drop).map_err(|error| creation_failure(section, &error))
}

/// Returns the failure of a client that cannot be created. librdkafka's message can quote a secret value; the property's name cannot.
fn creation_failure(section: &KafkaSection, error: &KafkaError) -> Failure {
    let failure = Failure::new(format!("cannot connect to `{}`", section.name)).kind(FailureKind::Profile);
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => {
            failure.because(format!("librdkafka has no property `{property}`")).hint(format!(
                "correct `kafka.{property}` under [{}]; librdkafka's CONFIGURATION.md lists the properties",
                section.name
            ))
        }
        KafkaError::ClientConfig(_, _, property, _) if !property.is_empty() => {
            failure.because(format!("librdkafka rejects the value of `kafka.{property}`")).hint(format!(
                "correct `kafka.{property}` under [{}]; librdkafka's CONFIGURATION.md lists the properties",
                section.name
            ))
        }
        KafkaError::ClientCreation(reason) => diagnosis::diagnose_creation(section, reason),
        _ => failure.because("librdkafka rejects the configuration"),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::BaseProducer;

    use super::*;
    use crate::connectors::kafka::client_log::LogContext;

    #[test]
    fn a_section_may_shorten_the_longest_pause_before_a_connection() {
        let properties = vec![("reconnect.backoff.max.ms".to_owned(), Secret::new("120".to_owned()))];
        let section = KafkaSection { servers: "127.0.0.1:1".to_owned(), properties, ..KafkaSection::default() };
        let client =
            create_client::<LogContext, BaseProducer<LogContext>>(&section, &base_config(&section), LogContext::default());
        assert!(client.is_ok());
    }
}
