//! Retry, batch size, concurrency and poison detection. Pure: time is an argument.

pub(crate) mod backoff;
pub(crate) mod batch_size;
pub(crate) mod breaker;
pub(crate) mod concurrency;
pub(crate) mod poison;
pub(crate) mod rate;
