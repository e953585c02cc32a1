//! Consumer groups: their description by Kafka's own tool, and members for them.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::cluster::{CLUSTER_TIMEOUT, answered, options};
use super::{Cluster, eventually, stack};

/// One line of the description of a group by Kafka's own tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupLine {
    /// Topic.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
    /// The committed offset.
    pub(crate) committed: Option<i64>,
    /// The end of the log.
    pub(crate) end: i64,
    /// Its lag.
    pub(crate) lag: Option<i64>,
    /// Where its member is connected from.
    pub(crate) host: Option<String>,
    /// What its member calls itself.
    pub(crate) client: Option<String>,
}

impl Cluster {
    /// Returns the description of a group by Kafka's own tool.
    #[track_caller]
    pub(crate) fn group(&self, group: &str) -> Vec<GroupLine> {
        self.groups(&[group]).remove(group).unwrap_or_default()
    }

    /// Returns the descriptions of groups by Kafka's own tool, by name.
    #[track_caller]
    pub(crate) fn groups(&self, groups: &[&str]) -> HashMap<String, Vec<GroupLine>> {
        let mut all: HashMap<String, Vec<GroupLine>> = HashMap::new();
        for words in self.described(groups, &[]) {
            let word = |index: usize| words.get(index).filter(|word| *word != "-").cloned();
            let number = |index: usize| word(index).and_then(|word| word.parse::<i64>().ok());
            let Some(partition) = number(2).and_then(|number| i32::try_from(number).ok()) else { continue };
            all.entry(words[0].clone()).or_default().push(GroupLine {
                topic: words[1].clone(),
                partition,
                committed: number(3),
                end: number(4).expect("the tool prints the log end offset"),
                lag: number(5),
                host: word(7).map(|host| host.trim_start_matches('/').to_owned()),
                client: word(8),
            });
        }
        for lines in all.values_mut() {
            lines.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
        }
        all
    }

    /// Returns the state and the number of members of groups, from Kafka's own tool.
    #[track_caller]
    pub(crate) fn group_states(&self, groups: &[&str]) -> HashMap<String, (String, usize)> {
        let lines = self.described(groups, &["--state"]);
        let state = |words: Vec<String>| {
            let members = words.last()?.parse().ok()?;
            Some((words[0].clone(), (words[words.len() - 2].clone(), members)))
        };
        lines.into_iter().filter_map(state).collect()
    }

    /// Returns the words of each line about one of these groups.
    #[track_caller]
    fn described(&self, groups: &[&str], flags: &[&str]) -> Vec<Vec<String>> {
        let mut arguments = vec!["tool", "groups", "--bootstrap-server", &self.servers, "--describe"];
        for group in groups {
            arguments.extend(["--group", group]);
        }
        arguments.extend(flags);
        let output = stack(&arguments);
        let words = output.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.filter(|words| words.first().is_some_and(|first| groups.contains(&first.as_str()))).collect()
    }

    /// Deletes a group that has no members.
    #[track_caller]
    pub(crate) fn delete_group(&self, group: &str) {
        let gone = answered(self.admin().delete_groups(&[group], &options()));
        gone[0].as_ref().expect("the group is deleted");
    }

    /// Returns a member that reads `topic` for `group`, once it has all of its partitions. It commits nothing by itself.
    #[track_caller]
    pub(crate) fn join(&self, group: &str, topic: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("client.id", format!("member-of-{group}")).set("enable.auto.commit", "false");
        let member: BaseConsumer = config.create().expect("a consumer");
        member.subscribe(&[topic]).expect("the topic is subscribed to");
        let all = usize::try_from(self.partitions(topic)).expect("a number");
        eventually("a member has its partitions", CLUSTER_TIMEOUT, || {
            let _ = member.poll(Duration::from_millis(50));
            (member.assignment().ok()?.count() == all).then_some(())
        });
        member
    }
}
