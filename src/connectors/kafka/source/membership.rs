//! The group's member at each assignment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::ConsumerGroupMetadata;

/// A member of a group in one generation: the group refuses its offsets once it has lost its place.
#[derive(Clone)]
pub(crate) struct GroupMetadata(Arc<ConsumerGroupMetadata>);

impl GroupMetadata {
    pub(crate) fn new(member: ConsumerGroupMetadata) -> Self {
        Self(Arc::new(member))
    }

    pub(crate) fn native(&self) -> &ConsumerGroupMetadata {
        &self.0
    }
}

/// The member at each assignment that is queued for the engine, so that both are handed over together.
#[derive(Clone, Default)]
pub(crate) struct Members(Arc<Mutex<VecDeque<Option<GroupMetadata>>>>);

impl Members {
    pub(crate) fn push(&self, member: Option<ConsumerGroupMetadata>) {
        let member = member.map(GroupMetadata::new);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(member);
    }

    pub(crate) fn pop(&self) -> Option<GroupMetadata> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}
