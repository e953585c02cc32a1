//! The integration tests.
#![allow(clippy::unwrap_used)]

mod architecture;
mod completions;
mod demo;
mod deploy;
mod docs;
mod errors;
mod harness;
mod help;
mod lag;
mod lines;
mod metrics;
mod produce_fake;
mod profile;
mod real_aggregate;
mod real_deploy;
mod real_lag;
mod real_recipes;
mod real_replicate;
mod real_sink_es;
mod real_sink_mongo;
mod real_sinks;
mod real_tail;
mod real_three_brokers;
mod real_torture;
mod replicate_on_mock;
mod rights;
mod run;
mod sandbox;
mod secrets;
mod security;
mod shape;
mod sink_es;
mod sink_mongo;
mod tail;
mod unreachable;
