//! The integration tests.
#![allow(clippy::unwrap_used)]

mod architecture;
mod completions;
mod demo;
mod errors;
mod harness;
mod help;
mod lines;
mod produce_fake;
mod profile;
mod real_replicate;
mod real_sink_es;
mod replicate_on_mock;
mod run;
mod sandbox;
mod secrets;
mod security;
mod shape;
mod sink_es;
mod unreachable;
