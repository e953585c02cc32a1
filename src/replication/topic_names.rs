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

    /// Returns the first placeholder that has no meaning, such as `{topik}`.
    pub(crate) fn unknown_placeholder(&self) -> Option<&str> {
        let mut rests = self.0.match_indices('{').map(|(at, _)| &self.0[at..]);
        let found = rests.find(|rest| !rest.starts_with(PLACEHOLDER))?;
        Some(found.find('}').map_or(found, |end| &found[..=end]))
    }

    /// Returns whether every source topic gets the same name.
    pub(crate) fn is_fixed(&self) -> bool {
        !self.0.contains(PLACEHOLDER)
    }

    pub(crate) fn target(&self, source: Topic) -> Topic {
        Topic::named(&self.0.replace(PLACEHOLDER, source.name()))
    }

    /// Returns the name of the source topic whose target topic has this name; `None` for a fixed name.
    pub(crate) fn source<'t>(&self, target: &'t str) -> Option<&'t str> {
        let placeholders = self.0.matches(PLACEHOLDER).count();
        let start = self.0.find(PLACEHOLDER)?;
        let text = self.0.len() - placeholders * PLACEHOLDER.len();
        let length = target.len().checked_sub(text)?.checked_div(placeholders)?;
        let source = target.get(start..start + length)?;
        (self.0.replace(PLACEHOLDER, source) == target).then_some(source)
    }

    /// Returns the name of the target topic.
    ///
    /// # Errors
    /// When Kafka does not allow the name.
    pub(crate) fn valid_target(&self, source: Topic) -> Result<Topic, ReplicationError> {
        let target = self.target(source);
        let is_valid = Topic::is_valid_name(target.name());
        if is_valid { Ok(target) } else { Err(ReplicationError::InvalidName(target.to_string())) }
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
    fn a_target_topic_has_one_source_topic() {
        for (names, target, source) in [
            (TopicNames::same(), "orders", Some("orders")),
            (TopicNames::template("x"), "x", None),
            (TopicNames::prefixed("eu."), "eu.orders", Some("orders")),
            (TopicNames::prefixed("eu."), "us.orders", None),
            (TopicNames::prefixed("eu."), "eu", None),
            (TopicNames::template("{topic}-{topic}"), "orders-orders", Some("orders")),
            (TopicNames::template("{topic}-{topic}"), "orders-others", None),
            (TopicNames::template("a{topic}b"), "aüb", Some("ü")),
        ] {
            assert_eq!(names.source(target), source, "{target}");
        }
    }

    #[test]
    fn a_placeholder_that_is_not_the_topic_is_found() {
        for (template, unknown) in [
            ("{topic}", None),
            ("{topic}-{topic}", None),
            ("copy", None),
            ("{topik}-copy", Some("{topik}")),
            ("eu.{topic}.{Topic}", Some("{Topic}")),
            ("ü{topic", Some("{topic")),
            ("{}", Some("{}")),
        ] {
            assert_eq!(TopicNames::template(template).unknown_placeholder(), unknown, "{template}");
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
