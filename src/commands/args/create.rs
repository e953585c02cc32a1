//! The value of `--create`: the topic that a command writes to, if it does not exist.

use std::str::FromStr;

use crate::connectors::kafka::{Admin, TopicInfo, TopicPlan};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Topic;
use crate::report::counted;

/// The partitions and the replication factor of a topic to create: `6:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewTopic {
    pub(crate) partitions: i32,
    replication: i32,
}

impl FromStr for NewTopic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i32>().ok();
        let parsed = text.split_once(':').and_then(|(partitions, replication)| {
            Some(Self { partitions: number(partitions)?, replication: number(replication)? })
        });
        match parsed {
            Some(create) if create.partitions < 1 => Err("a topic has at least 1 partition, as in 6:1".to_owned()),
            Some(create) if create.replication < 1 => Err("a topic has at least 1 replica, as in 6:1".to_owned()),
            Some(create) => Ok(create),
            None => Err("use PARTITIONS:REPLICATION, as in 6:1".to_owned()),
        }
    }
}

impl NewTopic {
    /// Returns what is created for a topic to write to, which is `existing` or missing; `None` if it exists. Changes nothing.
    ///
    /// # Errors
    /// When the topic is missing and is not to be created, or cannot be created.
    pub(crate) async fn plan(
        create: Option<Self>,
        admin: &Admin,
        topic: Topic,
        existing: Option<&TopicInfo>,
    ) -> Result<Option<Self>, Error> {
        let section = admin.section();
        let Some(existing) = existing else {
            let Some(create) = create else {
                let failure = Failure::new(format!("topic `{topic}` does not exist on `{section}`"));
                return Err(failure.hint("add --create 6:1, for 6 partitions with one replica each").into());
            };
            let (brokers, Self { partitions, replication }) = (admin.broker_count().await?, create);
            if usize::try_from(replication).is_ok_and(|replication| replication > brokers) {
                let replicas = counted(u64::from(replication.unsigned_abs()), "replica");
                let failure = Failure::new(format!("cannot create topic `{topic}` on `{section}` with {replicas}"));
                let failure = failure.because(format!("the cluster has {}", counted(brokers as u64, "broker")));
                return Err(failure.hint(format!("use --create {partitions}:{brokers}")).into());
            }
            admin.check_creatable(topic.name())?;
            return Ok(Some(create));
        };
        if create.is_some_and(|create| create.partitions != existing.partitions) {
            let partitions = counted(u64::from(existing.partitions.unsigned_abs()), "partition");
            tracing::warn!("{topic}: exists with {partitions}; --create has no effect");
        }
        Ok(None)
    }

    /// Returns the line of a plan: "will be created with 6 partitions and 1 replica".
    pub(crate) fn line(self) -> String {
        let count = |number: i32, noun| counted(u64::from(number.unsigned_abs()), noun);
        format!("will be created with {} and {}", count(self.partitions, "partition"), count(self.replication, "replica"))
    }

    /// Creates the topic.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub(crate) async fn create(self, admin: &Admin, topic: Topic) -> Result<(), Error> {
        let Self { partitions, replication } = self;
        let (name, config, optional_config) = (topic.name().to_owned(), Vec::new(), Vec::new());
        let plan = TopicPlan { name, partitions, replication: Some(replication), config, optional_config };
        Ok(admin.create_topic(&plan).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_to_create_is_partitions_and_replicas() {
        assert_eq!("6:1".parse(), Ok(NewTopic { partitions: 6, replication: 1 }));
        assert_eq!("6:1".parse::<NewTopic>().unwrap().line(), "will be created with 6 partitions and 1 replica");
        for (wrong, why) in [("0:1", "at least 1 partition"), ("1:0", "at least 1 replica"), ("6", "PARTITIONS:REPLICATION")] {
            assert!(wrong.parse::<NewTopic>().unwrap_err().contains(why), "{wrong}");
        }
    }
}
