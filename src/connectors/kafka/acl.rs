//! Missing rights: what the ACLs of a cluster deny, and the right to give.

use std::fmt;

use crate::connectors::kafka::librdkafka::NativeError;
use crate::pipeline::Failure;

/// A request that ACLs can deny, with the name of its topic, group or transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AclOperation<'a> {
    DescribeTopic(&'a str),
    ReadTopic(&'a str),
    WriteTopic(&'a str),
    CreateTopic(&'a str),
    AddPartitions(&'a str),
    /// To see members and offsets.
    DescribeGroup(&'a str),
    /// To join, and to commit offsets.
    ReadGroup(&'a str),
    /// To delete the group, or some of its offsets.
    DeleteGroup(&'a str),
    UseTransactionalId(&'a str),
}

impl fmt::Display for AclOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DescribeTopic(name) => write!(f, "describe topic `{name}`"),
            Self::ReadTopic(name) => write!(f, "read topic `{name}`"),
            Self::WriteTopic(name) => write!(f, "write to topic `{name}`"),
            Self::CreateTopic(name) => write!(f, "create topic `{name}`"),
            Self::AddPartitions(name) => write!(f, "add partitions to topic `{name}`"),
            Self::DescribeGroup(name) => write!(f, "describe group `{name}`"),
            Self::ReadGroup(name) => write!(f, "use group `{name}`"),
            Self::DeleteGroup(name) => write!(f, "delete offsets of group `{name}`"),
            Self::UseTransactionalId(name) => write!(f, "use transactional id `{name}`"),
        }
    }
}

impl AclOperation<'_> {
    /// Returns the right to give.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::DescribeTopic(_) => "give the user DESCRIBE on the topic; READ and WRITE include it",
            Self::ReadTopic(_) => "give the user READ on the topic",
            Self::WriteTopic(_) => "give the user WRITE on the topic",
            Self::CreateTopic(_) => "give the user CREATE on the topic, or create it yourself",
            Self::AddPartitions(_) => "give the user ALTER on the topic, or add the partitions yourself",
            Self::DescribeGroup(_) => "give the user DESCRIBE on the group; READ includes it",
            Self::ReadGroup(_) => "give the user READ on the group",
            Self::DeleteGroup(_) => "give the user DELETE on the group, and READ on its topics",
            Self::UseTransactionalId(_) => "give the user WRITE and DESCRIBE on the transactional id",
        }
    }

    /// Returns the failure of a denied request to the cluster of `section`.
    pub(crate) fn denied(self, section: &str) -> Failure {
        Failure::new(format!("not allowed to {self} of `{section}`")).hint(self.hint())
    }

    /// Returns `error` as part of a sentence, with the right to give if it is a missing one.
    pub(crate) fn reason(self, error: &NativeError) -> String {
        if error.is_denied() { format!("not allowed to {self}: {}", self.hint()) } else { error.summary() }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode as Code;

    use super::*;

    #[test]
    fn a_missing_right_is_named() {
        let group = AclOperation::ReadGroup("g");
        let failure = group.denied("remote_kafka");
        assert_eq!(failure.what, "not allowed to use group `g` of `remote_kafka`");
        assert_eq!(failure.hint.as_deref(), Some("give the user READ on the group"));
        for code in [Code::TopicAuthorizationFailed, Code::GroupAuthorizationFailed, Code::ClusterAuthorizationFailed] {
            assert_eq!(group.reason(&code.into()), "not allowed to use group `g`: give the user READ on the group");
        }
        assert_eq!(group.reason(&NativeError::timed_out()), "no answer in time");
    }
}
