//! Decides whether a topic is gone that a broker does not list, or lists with another id. Pure.
//!
//! A broker answers from a copy of the cluster's metadata that may be late, as after a pause: its word alone proves nothing. The active
//! controller does not lag behind. It is asked to create the topic, and only to validate that, which changes nothing: that the topic
//! exists is the first thing that it checks. Brokers in KRaft mode forward the request; librdkafka sends it to the controller of the
//! metadata, which is any broker there.
//!
//! A user without the right to create gets no such answer, and no request tells the controller's id of a topic. Then all brokers of the
//! metadata are asked: one that lists the topic outweighs the others, and more than half have to answer, so that late ones alone, with
//! the others away, prove nothing.

use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::librdkafka::NativeError;

/// What the answer to the validation of a creation tells of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CreationVerdict {
    Exists,
    Absent,
    /// No controller has answered.
    Outage(NativeError),
    /// Nothing: the user lacks the right, or the brokers do not implement it.
    Nothing,
}

/// Returns what the code tells with which the cluster refuses to create a topic; `None` if it would create it.
pub(super) fn of_creation(refusal: Option<NativeError>) -> CreationVerdict {
    use RDKafkaErrorCode as Code;
    let Some(refusal) = refusal else { return CreationVerdict::Absent };
    match refusal.code {
        Code::TopicAlreadyExists => CreationVerdict::Exists,
        // What is checked of a topic that does not exist.
        Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::PolicyViolation => CreationVerdict::Absent,
        _ if refusal.is_outage() => CreationVerdict::Outage(refusal),
        _ => CreationVerdict::Nothing,
    }
}

/// What one broker says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicListing {
    /// It lists the topic, with this id if it knows one.
    Listed(Option<String>),
    Missing,
    /// It has not answered.
    Unknown,
}

/// Returns whether the brokers agree that the topic is gone, with the id that is `known` of it: that none lists it. `None` if too few
/// have answered.
pub(super) fn is_gone(known: Option<&str>, listings: &[TopicListing]) -> Option<bool> {
    let is_it = |listing: &TopicListing| match listing {
        TopicListing::Listed(id) => known.is_none() || id.as_deref() == known,
        TopicListing::Missing | TopicListing::Unknown => false,
    };
    if listings.iter().any(is_it) {
        return Some(false);
    }
    let answered = listings.iter().filter(|listing| **listing != TopicListing::Unknown).count();
    (2 * answered > listings.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_controller_s_validation_tells_whether_a_topic_exists() {
        use RDKafkaErrorCode as Code;
        let of = |code: Code| of_creation(Some(code.into()));
        assert_eq!(of_creation(None), CreationVerdict::Absent);
        assert_eq!(of(Code::TopicAlreadyExists), CreationVerdict::Exists);
        for code in [Code::PolicyViolation, Code::InvalidReplicationFactor, Code::InvalidTopic] {
            assert_eq!(of(code), CreationVerdict::Absent, "{code:?}");
        }
        for code in [Code::OperationTimedOut, Code::RequestTimedOut, Code::NotController, Code::BrokerTransportFailure] {
            assert_eq!(of(code), CreationVerdict::Outage(code.into()), "{code:?}");
        }
        for code in [Code::TopicAuthorizationFailed, Code::ClusterAuthorizationFailed, Code::UnsupportedFeature] {
            assert_eq!(of(code), CreationVerdict::Nothing, "{code:?}");
        }
    }

    #[test]
    fn a_topic_is_gone_when_most_brokers_answer_and_none_lists_it() {
        use TopicListing::{Missing, Unknown};
        let listed = |id: &str| TopicListing::Listed(Some(id.to_owned()));
        for (known, listings, gone) in [
            (None, vec![Missing], Some(true)),
            (None, vec![Missing; 3], Some(true)),
            (None, vec![Missing, Missing, Unknown], Some(true)),
            (None, vec![Missing, Unknown, Unknown], None),
            (None, vec![Missing, Unknown], None),
            (None, vec![Missing, Missing, listed("new")], Some(false)),
            (None, vec![Missing, Unknown, TopicListing::Listed(None)], Some(false)),
            (None, vec![Unknown; 3], None),
            (None, vec![], None),
            // Created again: a broker that is late lists the id of the topic before it.
            (Some("known"), vec![listed("new"), listed("new"), listed("new")], Some(true)),
            (Some("known"), vec![listed("late"), listed("known"), Unknown], Some(false)),
            (Some("known"), vec![listed("late"), listed("late"), listed("known")], Some(false)),
            (Some("known"), vec![listed("late"), Unknown, Unknown], None),
            (Some("known"), vec![listed("new"), Missing, Unknown], Some(true)),
        ] {
            assert_eq!(is_gone(known, &listings), gone, "{known:?} {listings:?}");
        }
    }
}
