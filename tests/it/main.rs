//! The integration tests.
#![allow(clippy::unwrap_used)]

mod architecture;
mod completions;
mod errors;
mod harness;
mod help;
mod profile;
mod real_replicate;
mod run;
mod secrets;
mod security;
mod unreachable;
