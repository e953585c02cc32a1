//! The names of target topics.

use crate::record::Topic;
use crate::replication::ReplicationError;

/// Placeholder for the name of the source topic.
const PLACEHOLDER: &str = "{topic}";

/// A template for the names of target topics: `{topic}` stands for the name of the source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicNames(String);

impl TopicNames {
    pub(crate) fn same() -> Self {
        Self(PLACEHOLDER.to_owned())
    }

    pub(crate) fn prefixed(prefix: &str) -> Self {
        Self(format!("{prefix}{PLACEHOLDER}"))
    }

    pub(crate) fn template(template: &str) -> Self {
        Self(template.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether every source topic gets the same name.
    pub(crate) fn is_fixed(&self) -> bool {
        !self.0.contains(PLACEHOLDER)
    }

    pub(crate) fn target(&self, source: Topic) -> Topic {
        Topic::named(&self.0.replace(PLACEHOLDER, source.name()))
    }

    /// Returns the name of the target topic.
    ///
    /// # Errors
    /// When Kafka does not allow the name.
    pub(crate) fn valid_target(&self, source: Topic) -> Result<Topic, ReplicationError> {
        let target = self.target(source);
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match target.name() {
            "" | "." | ".." => Err(ReplicationError::InvalidName(target.to_string())),
            name if name.len() > 249 || !name.chars().all(is_legal) => Err(ReplicationError::InvalidName(name.to_owned())),
            _ => Ok(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_the_target_topic() {
        let orders = Topic::named("orders");
        for (names, target, fixed) in [
            (TopicNames::same(), "orders", false),
            (TopicNames::template("x"), "x", true),
            (TopicNames::prefixed("eu."), "eu.orders", false),
            (TopicNames::template("{topic}-copy"), "orders-copy", false),
        ] {
            assert_eq!((names.target(orders).name(), names.is_fixed()), (target, fixed));
        }
    }

    #[test]
    fn a_name_that_kafka_does_not_allow_is_an_error() {
        let valid = |name: &str| TopicNames::template(name).valid_target(Topic::named("orders"));
        assert!(valid("eu.orders_1-x").is_ok() && valid(&"x".repeat(249)).is_ok());
        for name in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert!(valid(name).is_err(), "{name}");
        }
    }
}
