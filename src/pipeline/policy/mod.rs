//! When to send again, how much at once, and which record is to blame. Pure: the time comes in as an argument.

pub(crate) mod backoff;
pub(crate) mod batch_size;
pub(crate) mod breaker;
pub(crate) mod concurrency;
pub(crate) mod poison;
pub(crate) mod rate;
