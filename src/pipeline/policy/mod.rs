//! When to send again, how much at once, and who is to blame. Pure: the time comes in as an argument.

pub(crate) mod backoff;
pub(crate) mod breaker;
pub(crate) mod rate;
