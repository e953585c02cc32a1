//! The user-login domain: the event, and a generator of it.

pub mod event;
pub mod fake;
