//! The first connection to a cluster.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer as _};

use crate::connectors::connect_error::WaitLog;
use crate::connectors::kafka::access;
use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::client_log::{ClientLog, LogContext};
use crate::connectors::kafka::config::{base_config, check, create_client};
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::bootstrap::add_servers;
use crate::connectors::kafka::librdkafka::certificate;
use crate::pipeline::{ConnectorError, Failure, Refused};
use crate::profile::KafkaSection;

/// Timeout of one request to a cluster that has not answered yet.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);

/// Timeout of the second connection, which finds out why a certificate failed: as long as a first contact may take, on a busy machine.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMetadata {
    /// Absent where the cluster has none.
    pub id: Option<String>,
}

/// Waits up to `wait` for the first answer of the section's cluster.
///
/// # Errors
/// When a file cannot be read, a property is wrong, or no broker answers in time: with host, step and hint. A wrong password or
/// certificate fails at once. Refuses a cluster whose id is not the section's `cluster_id`.
pub async fn reach(section: &KafkaSection, wait: Duration) -> Result<ClusterMetadata, ConnectorError> {
    check(section)?;
    let section = section.clone();
    let reached = tokio::task::spawn_blocking(move || reach_blocking(&section, wait)).await;
    reached.unwrap_or_else(|error| Err(Failure::new("the connection test was interrupted").because(error).into()))
}

fn reach_blocking(section: &KafkaSection, wait: Duration) -> Result<ClusterMetadata, ConnectorError> {
    let client_log = ClientLog::default();
    let context = LogContext { client_log: client_log.clone() };
    let deadline = Instant::now() + wait;
    let mut log = WaitLog::new(&section.name, wait);
    if let Some(keeper) = access::keeper(section)? {
        let waited = keeper.wait(deadline, |error| log.on_failed_attempt(|| access::failure(section, error)));
        waited.map_err(|error| {
            let failure = access::failure(section, &error);
            if error.is_lasting { failure } else { log.gave_up(failure) }
        })?;
    }
    let client: Authenticated<BaseProducer<LogContext>> = create_client(section, &base_config(section), context)?;
    loop {
        if let Some(id) = client.client().fetch_cluster_id(PROBE_TIMEOUT) {
            return check_cluster_id(section, Some(id));
        }
        // Log lines and errors arrive by polling only.
        client.poll(Duration::ZERO);
        add_servers(client.client());
        // A cluster without an id still answers a metadata request. One that is slow has an id now.
        if client_log.lines().is_empty() && client.client().fetch_metadata(None, PROBE_TIMEOUT).is_ok() {
            return check_cluster_id(section, client.client().fetch_cluster_id(PROBE_TIMEOUT));
        }
        let lines = client_log.lines();
        let is_lasting = diagnosis::is_lasting(section, &lines);
        if is_lasting || Instant::now() >= deadline {
            let flaw = diagnosis::names_certificate(&lines)
                .then(|| certificate::flaw(base_config(section), CERTIFICATE_TIMEOUT))
                .flatten();
            let failure = diagnosis::diagnose(section, &lines, flaw, wait);
            return Err(if is_lasting { failure } else { log.gave_up(failure) }.into());
        }
        log.on_failed_attempt(|| diagnosis::diagnose(section, &lines, None, wait));
    }
}

fn check_cluster_id(section: &KafkaSection, id: Option<String>) -> Result<ClusterMetadata, ConnectorError> {
    let (Some(wanted), name) = (&section.cluster_id, &section.name) else { return Ok(ClusterMetadata { id }) };
    if id.as_ref() == Some(wanted) {
        return Ok(ClusterMetadata { id });
    }
    let found = id.unwrap_or_else(|| "none".to_owned());
    Err(ConnectorError::Refused(Refused {
        what: format!("`{name}` is not the cluster of the profile's `cluster_id`"),
        numbers: vec![format!("cluster_id in the profile: {wanted}"), format!("cluster id of {}: {found}", section.servers)],
        hint: format!("correct `servers` or `cluster_id` under [{name}]"),
    }))
}
