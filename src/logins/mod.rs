//! The user-login domain: the event, a generator of it, and counts of it in windows.

pub mod counts;
pub mod event;
pub mod fake;
pub mod output;
pub mod projection;
pub mod windows;
