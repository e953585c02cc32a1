//! What the facts about a cluster mean. Pure.

use crate::connectors::kafka::{
    AclOperation, AdvertisedBroker, ApiVersions, PartitionReplicas, RightAnswer, TOPIC_NAME_RULE, TopicRight,
};
use crate::doctor::report::{Contact, LOGIN, RIGHTS, ROUNDTRIP, Step, TLS};
use crate::number::{counted, grouped};
use crate::pipeline::{ConnectStep, Failure, FailureKind};
use crate::profile::KafkaSection;
use crate::record::Topic;

pub(super) const VERSIONS: &str = "versions";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const LISTENERS: &str = "listeners";
pub(super) const TOPICS: &str = "topics";
pub(super) const RECORD_SIZE: &str = "record_size";
pub(super) const REPLICAS: &str = "replicas";

/// Returns how the section connects.
pub(super) fn contact(section: &KafkaSection) -> Contact {
    let (protocol, name) = (section.protocol(), &section.name);
    let is_encrypted = protocol.ends_with("SSL");
    let user = section.property("sasl.username").or(section.username.as_deref());
    let tls = if is_encrypted {
        Step::ok(TLS, "the certificates of the brokers are valid for their names")
    } else {
        Step::ok(TLS, format!("not used: `security_protocol` under [{name}] is {protocol}"))
    };
    let login = match (section.mechanism(), user) {
        (Some(mechanism), Some(user)) => Step::ok(LOGIN, format!("`{user}` ({mechanism})")),
        (Some(mechanism), None) => Step::ok(LOGIN, mechanism),
        (None, _) if is_encrypted && section.ssl_certificate_location.is_some() => Step::ok(LOGIN, "by the client certificate"),
        (None, _) => Step::ok(LOGIN, "not used: the section has none"),
    };
    Contact { is_encrypted, logs_in: section.mechanism().is_some(), tls, login }
}

pub(super) fn versions(versions: &ApiVersions) -> Step {
    match versions.release() {
        _ if versions.is_empty() => Step::skipped(VERSIONS, "the brokers do not tell the versions of their requests"),
        _ if !versions.has_idempotence() => Step::fail(
            VERSIONS,
            "the brokers have no idempotent producers, with which every command writes",
            "use Kafka 0.11 or newer",
        ),
        Some(release) => Step::ok(VERSIONS, format!("{release} or newer")),
        None => Step::ok(VERSIONS, "all requests that are needed"),
    }
}

pub(super) fn cluster(section: &KafkaSection, id: &str) -> String {
    match (id, section.cluster_id.is_some()) {
        ("", _) => "the cluster has no id".to_owned(),
        (id, true) => format!("{id}, as `cluster_id` wants"),
        (id, false) => id.to_owned(),
    }
}

pub(super) fn listeners(brokers: &[AdvertisedBroker]) -> Step {
    let shown: Vec<_> = brokers.iter().map(|broker| format!("broker {} at {}", broker.id, broker.address)).collect();
    Step::ok(LISTENERS, format!("reached {}", shown.join(", ")))
}

/// Returns the step of a broker that cannot be reached at the address that it advertises.
pub(super) fn unreachable_listener(broker: &AdvertisedBroker, failure: &Failure) -> Step {
    let AdvertisedBroker { id, address } = broker;
    let begin = format!("bootstrap answers, but broker {id} advertises {address}");
    let why = failure.causes.join(": ");
    let why = why.strip_prefix(&format!("{address}: ")).unwrap_or(&why);
    match failure.kind {
        FailureKind::Connect(ConnectStep::NameLookup) if why.ends_with("does not resolve") => Step::fail(
            LISTENERS,
            format!("{begin}, and that name does not resolve here"),
            "set its advertised.listeners, or run sdl where it resolves",
        ),
        FailureKind::Connect(ConnectStep::NameLookup | ConnectStep::Connect) => Step::fail(
            LISTENERS,
            format!("{begin}, and that address cannot be reached from here: {why}"),
            "start the broker, set its advertised.listeners, or run sdl where the address can be reached",
        ),
        _ => {
            let hint = failure.hint.clone().unwrap_or_else(|| "set its advertised.listeners".to_owned());
            let hint = if why.contains("another host name") { "advertise a name of its certificate".to_owned() } else { hint };
            Step::fail(LISTENERS, format!("{begin}, and that address cannot be used: {why}"), hint)
        }
    }
}

pub(super) fn topics<'a>(section: &KafkaSection, seen: impl Iterator<Item = &'a str>) -> Step {
    // Those that begin with `__` are Kafka's own.
    let seen = seen.filter(|name| !name.starts_with("__")).count();
    let seen = counted(seen as u64, "topic");
    let finding = if section.has_login() { format!("the user can see {seen}") } else { format!("the cluster has {seen}") };
    Step::ok(TOPICS, finding)
}

/// Returns the failure of a name that the commands refuse; `None` if Kafka allows it.
pub(super) fn invalid_topic(section: &str, key: &str, name: &str) -> Option<Step> {
    let step = || {
        let hint = format!("correct `{key}` under [{section}]: {TOPIC_NAME_RULE}");
        Step::fail(TOPICS, format!("`{name}` is not a valid topic name"), hint)
    };
    (!Topic::is_valid_name(name)).then(step)
}

pub(super) fn missing_read_topic(section: &KafkaSection, topic: &str) -> Step {
    let doubt = if section.has_login() { ", or the user may not describe it" } else { "" };
    let hint = format!("correct `default_consumer_topic` under [{}], or create the topic", section.name);
    Step::fail(TOPICS, format!("topic `{topic}` does not exist{doubt}"), hint)
}

pub(super) fn missing_written_topic(section: &str, topic: &str, may_create: &RightAnswer) -> Step {
    let create = AclOperation::CreateTopic(topic);
    let missing = format!("topic `{topic}` does not exist");
    match may_create {
        RightAnswer::Allowed => Step::ok(TOPICS, format!("{missing}: `sdl replicate` creates it")),
        RightAnswer::Denied => Step::fail(TOPICS, format!("{missing}, and the user is not allowed to create it"), create.hint()),
        RightAnswer::Untold => {
            Step::fail(TOPICS, missing, format!("correct `default_producer_topic` under [{section}], or create the topic"))
        }
    }
}

/// Returns the steps for a topic of which the answers are about `right` and about its settings.
pub(super) fn topic_rights(topic: &str, right: TopicRight, answers: &[RightAnswer]) -> Vec<Step> {
    let operation = match right {
        TopicRight::Read => AclOperation::ReadTopic(topic),
        TopicRight::Write => AclOperation::WriteTopic(topic),
        TopicRight::DescribeConfigs => AclOperation::DescribeTopic(topic),
    };
    let mut steps = vec![right_step(operation, &answers[0])];
    if answers.get(1) == Some(&RightAnswer::Denied) {
        steps.push(Step::warn(
            RIGHTS,
            format!("not allowed to read the settings of topic `{topic}`"),
            "give the user DESCRIBE_CONFIGS on the topic",
        ));
    }
    steps
}

pub(super) fn right_step(operation: AclOperation<'_>, answer: &RightAnswer) -> Step {
    match answer {
        RightAnswer::Allowed => Step::ok(RIGHTS, format!("may {operation}")),
        RightAnswer::Denied => Step::fail(RIGHTS, format!("not allowed to {operation}"), operation.hint()),
        RightAnswer::Untold => Step::skipped(RIGHTS, format!("the cluster does not tell whether the user may {operation}")),
    }
}

/// Judges the largest record that the topic to write takes, in bytes, beside that of the topic to read.
pub(super) fn record_size(written: &str, largest: Option<u64>, read: Option<(Topic, u64)>) -> Step {
    let Some(largest) = largest else {
        return Step::skipped(RECORD_SIZE, format!("`max.message.bytes` of topic `{written}` is not known"));
    };
    let takes = format!("topic `{written}` takes records of up to {} bytes", grouped(largest));
    match read {
        Some((read, size)) if size > largest => Step::warn(
            RECORD_SIZE,
            format!("{takes}, and topic `{read}` may hold some of {}", grouped(size)),
            format!("set `max.message.bytes = {size}` of topic `{written}`; larger records are bad records"),
        ),
        _ => Step::ok(RECORD_SIZE, takes),
    }
}

/// Judges the replicas of a topic's partitions beside its `min.insync.replicas`, if that is known.
pub(super) fn replicas(topic: &str, partitions: &[PartitionReplicas], minimum: Option<usize>) -> Step {
    let leaderless = partitions.iter().filter(|partition| !partition.has_leader).count();
    if let Some(first) = partitions.iter().find(|partition| !partition.has_leader) {
        let others = if leaderless > 1 { format!(", and {} more", leaderless - 1) } else { String::new() };
        return Step::fail(
            REPLICAS,
            format!("partition {topic}/{}{others}: no leader", first.partition),
            "start the brokers that have its replicas",
        );
    }
    let needed = minimum.unwrap_or(1);
    let Some(weakest) = partitions.iter().min_by_key(|partition| partition.in_sync) else {
        return Step::skipped(REPLICAS, format!("topic `{topic}` has no partitions"));
    };
    let PartitionReplicas { partition, replicas, in_sync, .. } = *weakest;
    let state = format!("partition {topic}/{partition} has {in_sync} of {} in sync", counted(replicas as u64, "replica"));
    let wants = format!("`min.insync.replicas` is {needed}");
    if in_sync < needed && replicas < needed {
        let hint = format!("set `min.insync.replicas = {replicas}` of the topic, or give it more replicas");
        return Step::fail(REPLICAS, format!("writes are refused: {state}, and {wants}"), hint);
    }
    if in_sync < needed {
        return Step::fail(REPLICAS, format!("writes are refused: {state}, and {wants}"), "start the brokers that are down");
    }
    if in_sync < replicas {
        return Step::warn(REPLICAS, format!("{state}, and {wants}"), "start the brokers that are down");
    }
    if needed == replicas && replicas > 1 {
        let hint = format!("set `min.insync.replicas = {}` of topic `{topic}`", replicas - 1);
        return Step::warn(REPLICAS, format!("each broker that stops will stop writes: {state}, and {wants}"), hint);
    }
    Step::ok(REPLICAS, format!("topic `{topic}`: {} of {} in sync, {wants}", in_sync, counted(replicas as u64, "replica")))
}

pub(super) fn round_trip(topic: &str, is_removed: bool) -> Step {
    let done = format!("wrote a record to topic `{topic}` and read it");
    if is_removed {
        Step::ok(ROUNDTRIP, format!("{done}; the topic is deleted again"))
    } else {
        let hint = format!("delete topic `{topic}`, or give the user DELETE on topics that begin with `sdl-doctor-`");
        Step::warn(ROUNDTRIP, format!("{done}; the topic could not be deleted"), hint)
    }
}

#[cfg(test)]
#[path = "judgements_tests.rs"]
mod tests;
