//! What a run says of a target that was deleted while it wrote to it.

use std::sync::Arc;
use std::time::Duration;

use crate::connectors::kafka::{TopicChange, WatchedTopic};
use crate::document::Presence;
use crate::pipeline::{LookAtTarget, Refused, TargetLook, TargetWatch, WatchPace, Watcher};
use crate::record::Topic;

/// How often a topic is looked at.
const TOPIC_PACE: WatchPace = WatchPace { interval: Duration::from_secs(2), deleted_after: Duration::from_secs(4) };
/// How often an index or a collection is looked at. A server that was restarted does not forget one.
const DOCUMENT_PACE: WatchPace = WatchPace { interval: Duration::from_secs(1), deleted_after: Duration::from_secs(1) };

/// What is lost with a target.
#[derive(Clone, Copy)]
pub(crate) struct LostContent {
    /// What follows the reason that the target is missing: a remedy, or nothing.
    pub(crate) missing: &'static str,
    /// In the plural: "the windows that were written to it".
    pub(crate) what: &'static str,
    /// How to get it again, or to go on without it.
    pub(crate) hint: &'static str,
}

/// The content of an index or a collection.
const DOCUMENTS: LostContent = LostContent {
    missing: "",
    what: "the documents that were stored in it",
    hint: "load them again with --from-beginning, or start again without it, to go on without them",
};

/// Returns why records for a topic that does not exist do not arrive.
pub(crate) fn missing_topic(topic: Topic, section: &str) -> String {
    format!("topic `{topic}` does not exist on `{section}`")
}

fn deleted(name: &str, id: &str, lost: LostContent) -> Refused {
    let what = format!("{name} was deleted during the run: {} are gone", lost.what);
    Refused { what, numbers: vec![format!("id at the start: {id}, not listed now")], hint: lost.hint.to_owned() }
}

fn recreated(name: &str, old: &str, new: &str, lost: LostContent) -> Refused {
    let what = format!("{name} was deleted and created again during the run: {} before are gone", lost.what);
    let numbers = vec![format!("id at the start: {old}"), format!("id now:          {new}")];
    Refused { what, numbers, hint: lost.hint.to_owned() }
}

/// Watches a topic that is written to. It may be replaced as long as `may_change` holds.
pub(crate) fn watch_topic(
    topic: WatchedTopic,
    watch: TargetWatch,
    lost: LostContent,
    may_change: impl Fn() -> bool + Send + Sync + 'static,
) -> Watcher {
    let (name, topic, may_change) = (topic.topic(), Arc::new(topic), Arc::new(may_change));
    let look: LookAtTarget = Arc::new(move || {
        let (topic, may_change) = (Arc::clone(&topic), Arc::clone(&may_change));
        Box::pin(async move {
            let look = match topic.look(|| may_change()).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::debug!(%error, "The topic `{name}` could not be looked at.");
                    return TargetLook::Unknown;
                }
            };
            let section = topic.section();
            let shown = format!("topic `{name}` on `{section}`");
            let missing = |topic| missing_topic(topic, section) + lost.missing;
            match look.change {
                Some(TopicChange::Recreated { old, new, .. }) => TargetLook::Recreated(recreated(&shown, &old, &new, lost)),
                Some(TopicChange::Deleted(topics)) => {
                    let id = topics.first().map_or("", |(_, id)| id.as_str());
                    TargetLook::Deleted { problem: missing(name), refused: deleted(&shown, id, lost) }
                }
                None => TargetLook::Sound {
                    problem: look.missing.first().map(|topic| missing(*topic)),
                    is_known: topic.id().is_some(),
                },
            }
        })
    });
    Watcher::start(look, watch, TOPIC_PACE)
}

/// Watches the place that documents are stored in, which `shown` names, by what `look` finds.
pub(crate) fn watch_documents<L>(shown: String, look: impl Fn() -> L + Send + Sync + 'static) -> Watcher
where
    L: Future<Output = Presence> + Send + 'static,
{
    let shown: Arc<str> = shown.into();
    let look: LookAtTarget = Arc::new(move || {
        let (shown, look) = (Arc::clone(&shown), look());
        Box::pin(async move { judge(&shown, look.await) })
    });
    Watcher::start(look, TargetWatch::default(), DOCUMENT_PACE)
}

fn judge(shown: &str, found: Presence) -> TargetLook {
    match found {
        Presence::Same => TargetLook::Sound { problem: None, is_known: true },
        Presence::NotYet => TargetLook::Sound { problem: None, is_known: false },
        Presence::Unknown => TargetLook::Unknown,
        Presence::Unwatchable => TargetLook::Unwatchable,
        Presence::Deleted { id } => {
            TargetLook::Deleted { problem: format!("{shown} does not exist"), refused: deleted(shown, &id, DOCUMENTS) }
        }
        Presence::Replaced { old, new } => TargetLook::Recreated(recreated(shown, &old, &new, DOCUMENTS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_what_was_deleted_what_is_lost_and_how_to_go_on() {
        let TargetLook::Deleted { refused, .. } = judge("index `i` of `es`", Presence::Deleted { id: "u1".to_owned() }) else {
            panic!("it is deleted")
        };
        assert_eq!(
            (refused.what.as_str(), refused.numbers[0].as_str(), refused.hint.as_str()),
            (
                "index `i` of `es` was deleted during the run: the documents that were stored in it are gone",
                "id at the start: u1, not listed now",
                DOCUMENTS.hint
            )
        );
        let (old, new) = ("u1".to_owned(), "u2".to_owned());
        let TargetLook::Recreated(refused) = judge("index `i` of `es`", Presence::Replaced { old, new }) else {
            panic!("it is another one")
        };
        let what = "index `i` of `es` was deleted and created again during the run: the documents that were stored in it before are gone";
        assert_eq!(
            (refused.what.as_str(), refused.numbers),
            (what, vec!["id at the start: u1".to_owned(), "id now:          u2".to_owned()])
        );
    }
}
