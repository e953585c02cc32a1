//! A Kafka section of the profile.

use crate::profile::Secret;

/// A cluster, and the defaults of the commands that use it.
#[derive(Clone, Debug, Default)]
pub struct KafkaSection {
    /// The section's name in the profile.
    pub name: String,
    /// Bootstrap servers, `host:port` with commas.
    pub servers: String,
    /// SASL user.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<Secret>,
    /// `PLAINTEXT`, `SASL_PLAINTEXT`, `SSL` or `SASL_SSL`.
    pub security_protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// The CA's file, PEM.
    pub ssl_ca_location: Option<String>,
    /// The client certificate's file, PEM.
    pub ssl_certificate_location: Option<String>,
    /// The client key's file, PEM.
    pub ssl_key_location: Option<String>,
    /// The client key's password.
    pub ssl_key_password: Option<Secret>,
    /// The group that consumers join when no other is named.
    pub default_consumer_group_id: Option<String>,
    /// The topic read when none is named.
    pub default_consumer_topic: Option<String>,
    /// The topic written when none is named.
    pub default_producer_topic: Option<String>,
    /// The only cluster id that a command may run against.
    pub cluster_id: Option<String>,
    /// Whether the cluster may be written to.
    pub protect: Protect,
    /// The key of `--mask`.
    pub mask_key: Option<Secret>,
    /// librdkafka properties as they are, in the order of the profile.
    pub properties: Vec<(String, String)>,
}

/// Whether a cluster may be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protect {
    /// Freely.
    #[default]
    Off,
    /// After a confirmation, or with `--yes`.
    Confirm,
    /// Never.
    ReadOnly,
}
