//! `sdl`, the streaming data loader.
//!
//! ```text
//! Source --batch--> Transform --> Lanes --batch--> Sink --outcomes--> Watermark --offset--> Source::commit
//!                       `-filtered, bad             `--rejects--> dead letters (a Sink)
//!               every step --> Event --> Observer (bars | log | summary)
//! ```
//!
//! Two ports, one engine. A [`pipeline::Source`] gives records, a [`pipeline::Sink`] answers for each record of a batch, and
//! the [`pipeline`] is all that stands between. A module uses only what stands to its right:
//! `main -> cli -> commands -> {dlq, doctor, lag, offsets, replication, topics, windows} -> {report, terminal, connectors, logins} -> document -> {pipeline, profile} -> {shape, record} -> {number, spelling}`;
//! a test holds it to that.

pub mod cli;
pub mod commands;
pub mod connectors;
mod dlq;
mod doctor;
pub mod document;
pub mod error;
mod lag;
pub mod logins;
mod number;
mod offsets;
pub mod pipeline;
pub mod profile;
pub mod record;
mod replication;
pub(crate) mod report;
pub mod shape;
mod spelling;
pub(crate) mod terminal;
mod topics;
pub mod windows;
