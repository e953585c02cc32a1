//! A connection to one broker.

mod client;
mod in_flight;
mod stream;
mod transfer;

pub use client::{ConnectOptions, Connection, PendingResponse};

#[cfg(test)]
mod connection_tests;
