//! Every key of every type of section.

/// What a section describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// A Kafka cluster.
    Kafka,
    /// A MongoDB server.
    Mongodb,
    /// An Elasticsearch cluster.
    Elasticsearch,
    /// An OpenSearch cluster.
    Opensearch,
    /// Shaping under a name: `[shape.NAME]`.
    Shape,
    /// Flags of a command: `[run.COMMAND]`.
    Run,
}

impl SectionKind {
    /// Returns the name that `type =` takes and that tables show.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Mongodb => "mongodb",
            Self::Elasticsearch => "elasticsearch",
            Self::Opensearch => "opensearch",
            Self::Shape => "shape",
            Self::Run => "run",
        }
    }

    /// Returns the keys of a section of this type; empty where a section has keys of its own.
    #[must_use]
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Kafka => KAFKA,
            Self::Mongodb => MONGODB,
            Self::Elasticsearch | Self::Opensearch => ELASTIC,
            Self::Shape | Self::Run => &[],
        }
    }

    /// Returns the key called `name`, under any of its names.
    pub(crate) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().iter().find(|key| key.name == name || key.alias == Some(name))
    }
}

/// The types of a server's section.
pub const SERVERS: [SectionKind; 4] =
    [SectionKind::Kafka, SectionKind::Mongodb, SectionKind::Elasticsearch, SectionKind::Opensearch];

/// The sections that commands use when no other is named; these may come from variables alone without being asked for.
pub const WELL_KNOWN: [(&str, SectionKind); 5] = [
    ("remote_kafka", SectionKind::Kafka),
    ("local_kafka", SectionKind::Kafka),
    ("mongodb", SectionKind::Mongodb),
    ("elasticsearch", SectionKind::Elasticsearch),
    ("opensearch", SectionKind::Opensearch),
];

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// Whether its value must not be seen.
    pub secret: bool,
    /// What holds when it is not given.
    pub default: Option<&'static str>,
}

const fn key(name: &'static str) -> Key {
    Key { name, alias: None, secret: false, default: None }
}

const fn secret(name: &'static str) -> Key {
    Key { name, alias: None, secret: true, default: None }
}

const fn alias(name: &'static str, alias: &'static str) -> Key {
    Key { name, alias: Some(alias), secret: false, default: None }
}

const fn default(name: &'static str, default: &'static str) -> Key {
    Key { name, alias: None, secret: false, default: Some(default) }
}

const KAFKA: &[Key] = &[
    key("type"),
    key("servers"),
    key("username"),
    secret("password"),
    default("security_protocol", "PLAINTEXT"),
    key("sasl_mechanism"),
    key("ssl_ca_location"),
    key("ssl_certificate_location"),
    key("ssl_key_location"),
    secret("ssl_key_password"),
    key("default_consumer_group_id"),
    key("default_consumer_topic"),
    key("default_producer_topic"),
    key("cluster_id"),
    default("protect", "off"),
    secret("mask_key"),
];

const MONGODB: &[Key] = &[
    key("type"),
    secret("uri"),
    key("host"),
    default("port", "27017"),
    key("username"),
    secret("password"),
    key("auth_database"),
    default("tls", "false"),
    key("tls_ca_file"),
    alias("default_database", "default_db_name"),
    alias("default_collection", "default_collection_name"),
    key("consumer_group_id"),
];

const ELASTIC: &[Key] = &[
    key("type"),
    key("url"),
    key("username"),
    secret("password"),
    secret("api_key"),
    secret("bearer"),
    key("ca_file"),
    key("client_cert"),
    key("client_key"),
    default("insecure", "false"),
    key("default_index"),
    key("consumer_group_id"),
];

/// What a `kafka.` property starts with.
pub(crate) const PROPERTY: &str = "kafka.";

/// Returns what to use in place of a librdkafka property that the delivery promise rests on; `None` for any other.
pub(crate) fn owned_property(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "use the key `servers`",
        "group.id" => "use --group, or the key `default_consumer_group_id`",
        "group.instance.id" => "use --instance-id",
        "auto.offset.reset" | "topic.auto.offset.reset" => "use --start",
        "enable.auto.commit"
        | "auto.commit.enable"
        | "auto.commit.interval.ms"
        | "enable.auto.offset.store"
        | "offset.store.method"
        | "offset.store.path"
        | "offset.store.sync.interval.ms" => "use --commit-interval",
        "message.timeout.ms" | "delivery.timeout.ms" | "message.send.max.retries" | "retries" => "use --retry-for",
        "isolation.level" => "use --read-uncommitted",
        "acks" | "request.required.acks" => "remove it: every write is acknowledged by all in-sync replicas",
        "enable.idempotence" | "enable.gapless.guarantee" => "remove it: every write is idempotent",
        "transactional.id" => "remove it: a command that needs a transaction names it",
        "group.protocol" | "partition.assignment.strategy" | "enable.partition.eof" => "remove it: the consumer depends on it",
        _ => return None,
    })
}

/// Returns whether the value of a librdkafka property must not be seen.
pub(crate) fn secret_property(name: &str) -> bool {
    ["password", "secret", ".pem", "oauthbearer", "jaas", "token"].iter().any(|part| name.contains(part))
}

/// Returns whichever of `names` is close enough to `name` to have been meant.
pub(crate) fn meant<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}
