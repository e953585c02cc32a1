//! Topics that a run writes to are the same for the whole run: their ids say so, their names do not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::connectors::kafka::admin::Admin;
use crate::pipeline::ConnectorError;
use crate::record::Topic;

/// What has become of topics since they were looked at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopicChange {
    /// Another topic has the name.
    Recreated { topic: Topic, old: String, new: String },
    /// The brokers do not list them any more, each with its id; never empty.
    Deleted(Vec<(Topic, String)>),
}

/// What a look at topics has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicLook {
    /// The topics that do not exist.
    pub(crate) missing: Vec<Topic>,
    /// Ids that were not known before.
    pub(crate) new_ids: Vec<(Topic, String)>,
    /// What the controller or most brokers confirm.
    pub(crate) change: Option<TopicChange>,
}

impl Admin {
    /// Looks whether topics are still those with these ids; an id is unknown until the brokers list it. What one broker lists is
    /// confirmed first: it may be late.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) async fn look_at(&self, known: &[(Topic, Option<String>)]) -> Result<TopicLook, ConnectorError> {
        let topics: Vec<Topic> = known.iter().map(|(topic, _)| *topic).collect();
        let (found, unlisted) = self.existing_ids(&topics).await?;
        let look = compare(known, &found, self.confirm_missing(unlisted).await?);
        let is_late = match &look.change {
            Some(TopicChange::Recreated { topic, old, .. }) => !self.is_replaced(*topic, old).await?,
            _ => false,
        };
        Ok(TopicLook { change: look.change.filter(|_| !is_late), ..look })
    }
}

fn compare(known: &[(Topic, Option<String>)], found: &HashMap<Topic, String>, missing: Vec<Topic>) -> TopicLook {
    let (mut new_ids, mut deleted) = (Vec::new(), Vec::new());
    for (topic, id) in known {
        match (id, found.get(topic)) {
            (None, Some(new)) => new_ids.push((*topic, new.clone())),
            (Some(old), Some(new)) if old != new => {
                let (topic, old, new) = (*topic, old.clone(), new.clone());
                return TopicLook { missing, new_ids, change: Some(TopicChange::Recreated { topic, old, new }) };
            }
            (Some(id), None) if missing.contains(topic) => deleted.push((*topic, id.clone())),
            _ => {}
        }
    }
    TopicLook { missing, new_ids, change: (!deleted.is_empty()).then_some(TopicChange::Deleted(deleted)) }
}

/// A topic that is written to.
pub(crate) struct WatchedTopic {
    admin: Admin,
    topic: Topic,
    id: Mutex<Option<String>>,
}

impl WatchedTopic {
    pub(crate) fn new(admin: Admin, topic: Topic) -> Self {
        Self { admin, topic, id: Mutex::default() }
    }

    pub(crate) fn topic(&self) -> Topic {
        self.topic
    }

    /// Returns the section of the cluster.
    pub(crate) fn section(&self) -> &str {
        self.admin.section()
    }

    /// Looks at the topic, and notes its id when it is first listed; if `may_change` holds for nothing was written to it, also another.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) async fn look(&self, may_change: impl Fn() -> bool) -> Result<TopicLook, ConnectorError> {
        let known = self.id();
        let mut look = self.admin.look_at(&[(self.topic, known)]).await?;
        if look.change.is_some() && may_change() {
            *self.lock() = match look.change.take() {
                Some(TopicChange::Recreated { new, .. }) => Some(new),
                _ => None,
            };
        }
        if let Some((_, id)) = look.new_ids.first() {
            self.lock().get_or_insert_with(|| id.clone());
        }
        Ok(look)
    }

    /// Returns the id of the topic, once the brokers have listed it.
    pub(crate) fn id(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_another_id_or_that_is_not_listed_has_changed_and_one_without_id_has_not() {
        let topics = ["a", "b"].map(Topic::named);
        let look = |known: [Option<&str>; 2], found: &[(&str, &str)], missing: &[&str]| {
            let known: Vec<_> = topics.into_iter().zip(known.map(|id| id.map(str::to_owned))).collect();
            let found = found.iter().map(|(name, id)| (Topic::named(name), (*id).to_owned())).collect();
            compare(&known, &found, missing.iter().map(|name| Topic::named(name)).collect())
        };
        let [a, b] = topics;
        let (one, two) = ("1".to_owned(), "2".to_owned());
        assert_eq!(
            look([Some("1"), None], &[("a", "1")], &[]),
            TopicLook::default(),
            "brokers without ids, or one that was restarted"
        );
        assert_eq!(look([None, None], &[("b", "2")], &["a"]).new_ids, [(b, two.clone())]);
        assert_eq!(look([None, None], &[], &["a", "b"]), TopicLook { missing: vec![a, b], ..TopicLook::default() });
        let recreated = TopicChange::Recreated { topic: a, old: one.clone(), new: two.clone() };
        assert_eq!(look([Some("1"), Some("2")], &[("a", "2"), ("b", "2")], &[]).change, Some(recreated));
        let deleted = TopicChange::Deleted(vec![(a, one), (b, two)]);
        assert_eq!(look([Some("1"), Some("2")], &[], &["a", "b"]).change, Some(deleted));
    }
}
