//! From the errors of a producer to the reasons of records. Pure.

use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::pipeline::Reason;
use crate::record::Topic;

pub(super) fn timestamp_hint(topic: Topic) -> String {
    format!("see `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of `{topic}`")
}

/// Returns the reason of an error that every record meets until a person acts.
pub(super) fn lasting(code: &'static str, error: &NativeError, topic: Topic, partition: Option<i32>) -> Reason {
    let operation = AclOperation::WriteTopic(topic.name());
    if error.is_denied() {
        return Reason::new("not_authorized", format!("not allowed to {operation}")).hint(operation.hint());
    }
    Reason::new(code, located(error, topic, partition).text)
}

/// Returns whether a producer has failed for good: it sends nothing any more, whatever the record.
pub(super) fn is_failure_of_producer(error: &NativeError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error.code, Code::Fatal | Code::GaplessGuarantee | Code::OutOfOrderSequenceNumber)
}

/// Returns whether the client or the broker does not know the partition: it was deleted, or metadata is older than it.
pub(super) fn is_missing(error: &NativeError) -> bool {
    error.is_unknown_partition() || error.code == RDKafkaErrorCode::UnknownTopicOrPartition
}

/// Returns the error with the name of its topic, and of the partition if the key does not decide.
pub(super) fn located(error: &NativeError, topic: Topic, partition: Option<i32>) -> NativeError {
    let partition = partition.map(|partition| format!(", partition {partition}")).unwrap_or_default();
    NativeError { code: error.code, text: format!("topic `{topic}`{partition}: {}", error.summary()) }
}

/// Returns why a broker refuses a record of the batch, if it does because of a record.
pub(super) fn refusal(error: &NativeError, topic: Topic) -> Option<Reason> {
    use RDKafkaErrorCode as Code;
    let (code, hint) = match error.code {
        Code::InvalidTimestamp => ("timestamp_refused", timestamp_hint(topic)),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            ("record_too_large", format!("raise `max.message.bytes` of `{topic}`"))
        }
        Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation | Code::UnsupportedForMessageFormat => {
            ("record_refused", format!("see the configuration of topic `{topic}` and the log of the broker"))
        }
        _ => return None,
    };
    Some(Reason::new(code, format!("topic `{topic}` does not accept the record: {}", error.summary())).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_error_names_the_topic_the_partition_and_a_missing_right() {
        use RDKafkaErrorCode as Code;
        let topic = Topic::named("orders");
        let shown = |code: Code, partition| {
            let reason = lasting("not_delivered", &NativeError::from(code), topic, partition);
            (reason.to_string(), reason.hinted().unwrap_or_default().to_owned())
        };
        assert_eq!(
            shown(Code::TopicAuthorizationFailed, Some(1)),
            ("not allowed to write to topic `orders`".to_owned(), "give the user WRITE on the topic".to_owned())
        );
        let (reason, _) = shown(Code::UnsupportedVersion, Some(1));
        assert!(reason.starts_with("topic `orders`, partition 1: "), "{reason}");
        assert!(shown(Code::UnsupportedVersion, None).0.starts_with("topic `orders`: "));
        assert!(
            [Code::UnknownTopicOrPartition, Code::UnknownPartition, Code::UnknownTopic]
                .map(NativeError::from)
                .iter()
                .all(is_missing)
        );
    }
}
