//! The keys of each section type.

/// The type of a section.
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
    /// Named shaping rules: `[shape.NAME]`.
    Shape,
    /// Defaults of a command's flags: `[run.COMMAND]`.
    Run,
}

impl SectionKind {
    /// Returns the name in `type =` and in tables.
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

    /// Returns the keys of this type; empty for types with free keys.
    #[must_use]
    pub fn keys(self) -> &'static [SectionKey] {
        match self {
            Self::Kafka => KAFKA,
            Self::Mongodb => MONGODB,
            Self::Elasticsearch | Self::Opensearch => ELASTIC,
            Self::Shape | Self::Run => &[],
        }
    }

    /// Returns whether a section of this type can have the key.
    pub(crate) fn knows(self, name: &str) -> bool {
        self.key(name).is_some() || self == Self::Kafka && name.starts_with(PROPERTY)
    }

    /// Returns the key with this name or alias.
    pub(crate) fn key(self, name: &str) -> Option<&'static SectionKey> {
        self.keys().iter().find(|key| key.name == name || key.alias == Some(name))
    }
}

/// The section types of servers.
pub const SERVER_KINDS: [SectionKind; 4] =
    [SectionKind::Kafka, SectionKind::Mongodb, SectionKind::Elasticsearch, SectionKind::Opensearch];

/// The default sections of the commands; these may come from environment variables alone.
pub(crate) const WELL_KNOWN: [(&str, SectionKind); 5] = [
    ("remote_kafka", SectionKind::Kafka),
    ("local_kafka", SectionKind::Kafka),
    ("mongodb", SectionKind::Mongodb),
    ("elasticsearch", SectionKind::Elasticsearch),
    ("opensearch", SectionKind::Opensearch),
];

/// A key of a section.
#[derive(Debug)]
pub struct SectionKey {
    /// As it is written in the profile.
    pub name: &'static str,
    /// Another name that is accepted for it.
    pub alias: Option<&'static str>,
    pub(crate) secret: bool,
    pub(crate) default: Option<&'static str>,
}

const fn key(name: &'static str) -> SectionKey {
    SectionKey { name, alias: None, secret: false, default: None }
}

const fn secret(name: &'static str) -> SectionKey {
    SectionKey { name, alias: None, secret: true, default: None }
}

const fn alias(name: &'static str, alias: &'static str) -> SectionKey {
    SectionKey { name, alias: Some(alias), secret: false, default: None }
}

const fn default(name: &'static str, default: &'static str) -> SectionKey {
    SectionKey { name, alias: None, secret: false, default: Some(default) }
}

const KAFKA: &[SectionKey] = &[
    key("type"),
    key("servers"),
    key("username"),
    secret("password"),
    default("security_protocol", "PLAINTEXT"),
    key("sasl_mechanism"),
    key("oauth_token_url"),
    key("oauth_client_id"),
    secret("oauth_client_secret"),
    key("oauth_scope"),
    key("oauth_extensions"),
    key("oauth_ca_location"),
    key("oauth_token_command"),
    key("oauth_token_file"),
    key("aws_region"),
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

const MONGODB: &[SectionKey] = &[
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

const ELASTIC: &[SectionKey] = &[
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
    key("proxy"),
    key("proxy_username"),
    secret("proxy_password"),
    key("aws_region"),
    key("aws_service"),
    key("default_index"),
    key("consumer_group_id"),
];

/// The prefix of librdkafka properties.
pub(crate) const PROPERTY: &str = "kafka.";

/// Returns whether a value of this key runs or loads a program, or sends what this user holds: not for a profile of somebody else.
pub(crate) fn reaches_out(key: &str) -> bool {
    const PROPERTIES: [&str; 5] =
        ["plugin.library.paths", "sasl.kerberos.kinit.cmd", "ssl.engine.location", "ssl.providers", "sasl.kerberos.keytab"];
    let is_property = |property: &str| PROPERTIES.contains(&property);
    matches!(key, "oauth_token_command" | "oauth_token_file" | "aws_region")
        || key.strip_prefix(PROPERTY).is_some_and(is_property)
}

/// What to use in place of a librdkafka property that sdl manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    Servers,
    Group,
    InstanceId,
    Start,
    CommitInterval,
    RetryFor,
    ReadUncommitted,
    /// Nothing: the reason.
    Nothing(&'static str),
}

/// Returns what to use in place of a librdkafka property that the delivery promise depends on; `None` for any other.
pub(crate) fn managed_property(name: &str) -> Option<Replacement> {
    use Replacement::{CommitInterval, Group, InstanceId, Nothing, ReadUncommitted, RetryFor, Servers, Start};
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => Servers,
        "group.id" => Group,
        "group.instance.id" => InstanceId,
        "auto.offset.reset" | "topic.auto.offset.reset" => Start,
        "enable.auto.commit"
        | "auto.commit.enable"
        | "auto.commit.interval.ms"
        | "enable.auto.offset.store"
        | "offset.store.method"
        | "offset.store.path"
        | "offset.store.sync.interval.ms" => CommitInterval,
        "message.timeout.ms" | "delivery.timeout.ms" | "message.send.max.retries" | "retries" => RetryFor,
        "isolation.level" => ReadUncommitted,
        "acks" | "request.required.acks" => Nothing("every write is acknowledged by all in-sync replicas"),
        "enable.idempotence" | "enable.gapless.guarantee" => Nothing("every write is idempotent"),
        "transactional.id" => Nothing("a command that needs a transaction sets it"),
        "group.protocol" | "partition.assignment.strategy" | "enable.partition.eof" => Nothing("the consumer depends on it"),
        _ => return None,
    })
}

/// Returns the key of a Kafka section for a name that librdkafka, Java clients or other tools use.
pub(crate) fn foreign_key(name: &str) -> Option<&'static str> {
    Some(match name.replace(['.', '-'], "_").as_str() {
        "bootstrap_servers"
        | "bootstrap_server"
        | "metadata_broker_list"
        | "brokers"
        | "broker"
        | "broker_list"
        | "server"
        | "kafka_brokers"
        | "kafka_servers" => "servers",
        "sasl_username" | "sasl_plain_username" => "username",
        "sasl_password" | "sasl_plain_password" => "password",
        "security_protocol" => "security_protocol",
        "sasl_mechanism" | "sasl_mechanisms" => "sasl_mechanism",
        "ssl_ca_location" | "ssl_cafile" | "ca_location" => "ssl_ca_location",
        "ssl_certificate_location" | "ssl_certfile" => "ssl_certificate_location",
        "ssl_key_location" | "ssl_keyfile" => "ssl_key_location",
        "ssl_key_password" => "ssl_key_password",
        "sasl_oauthbearer_token_endpoint_url" | "token_endpoint_url" => "oauth_token_url",
        "sasl_oauthbearer_client_id" | "sasl_oauthbearer_client_credentials_client_id" => "oauth_client_id",
        "sasl_oauthbearer_client_secret" | "sasl_oauthbearer_client_credentials_client_secret" => "oauth_client_secret",
        "sasl_oauthbearer_scope" => "oauth_scope",
        "sasl_oauthbearer_extensions" => "oauth_extensions",
        "group" | "group_id" | "group_name" | "consumer_group" | "consumer_group_id" | "default_group" => {
            "default_consumer_group_id"
        }
        "topic" | "topics" | "topic_name" | "default_topic" => "default_consumer_topic",
        _ => return None,
    })
}

/// Returns whether the value of a librdkafka property is secret.
pub(crate) fn is_secret_property(name: &str) -> bool {
    ["password", "secret", ".pem", "oauthbearer", "jaas", "token"].iter().any(|part| name.contains(part))
}

/// Returns the name that is most similar to `name`, if one is similar enough.
pub(crate) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Returns the environment variable of a key: `SDL_<SECTION>_<KEY>`.
pub(crate) fn variable_name(section: &str, key: &str) -> String {
    format!("SDL_{}_{}", variable_part(section), variable_part(key))
}

pub(crate) fn variable_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_other_tools_lead_to_the_key_of_a_kafka_section() {
        let names = |names: &[&str]| names.iter().map(|name| foreign_key(name)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names(&["brokers", "bootstrap.servers", "bootstrap-server"]), [Some("servers")].into());
        let groups = ["group", "group.id", "group_id", "consumer-group", "consumer.group.id"];
        assert_eq!(names(&groups), [Some("default_consumer_group_id")].into());
        assert_eq!(names(&["topic", "topics"]), [Some("default_consumer_topic")].into());
        assert_eq!(names(&["servers", "linger.ms"]), [None].into(), "a key of its own, and a property");
        let keys = SectionKind::Kafka.keys().iter().map(|key| key.name);
        assert!(keys.clone().any(|key| key == "default_consumer_group_id") && keys.clone().any(|key| key == "servers"));
    }
}
