//! The integration tests.
#![allow(clippy::unwrap_used)]
// The clients of the tests are not those of the product.
#![allow(clippy::disallowed_methods)]

mod access;
mod architecture;
mod completions;
mod demo;
mod deploy;
mod dlq;
mod docs;
mod doctor;
mod errors;
mod harness;
mod help;
mod lag;
mod lines;
mod metrics;
mod offset_map;
mod offsets;
mod produce_fake;
mod profile;
mod real_aggregate;
mod real_deploy;
mod real_dlq;
mod real_doctor;
mod real_lag;
mod real_offset_map;
mod real_offsets;
mod real_recipes;
mod real_replicate;
mod real_sink_es;
mod real_sink_mongo;
mod real_sinks;
mod real_tail;
mod real_three_brokers;
mod real_tokens;
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
mod status_page;
mod tail;
mod terminal_runs;
mod topic_settings;
mod topics;
mod unreachable;
