//! Tools of the tests: the binary under test, real and embedded clusters, records to send and ways to read them.
#![allow(dead_code, unused_imports, reason = "a toolbox: not every test binary or feature uses every tool")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod answers;
mod checker;
mod cluster;
mod deployed;
mod dice;
mod fault_proxy;
mod groups;
mod http_stub;
mod kafka_stub;
mod keyed_workload;
mod mock;
mod mongo_stub;
mod prometheus;
mod promql;
mod promtool;
mod pymongo;
mod reading;
mod scrape;
mod sdl;
mod sending;
mod taken_ids;
mod terminal;
#[cfg(test)]
mod tests;
mod three_brokers;
mod tls_stub;
mod token_server;
mod watch;

pub(crate) use answers::{deliver, offset_ids, outcome_codes, record, records};
pub(crate) use checker::{CheckReport, check};
pub(crate) use cluster::{Cluster, Clusters, stack, stack_env};
pub(crate) use deployed::{
    PanelQuery, alerts, dashboards, deployed, document_of, documents_of, files_in, list, panels, rules, text, text_of,
};
pub(crate) use dice::Dice;
pub(crate) use fault_proxy::{FETCH, OFFSET_COMMIT, PRODUCE, Proxy};
pub(crate) use groups::GroupLine;
pub(crate) use http_stub::{HttpStub, Reply, Request, created, items};
pub(crate) use kafka_stub::KafkaStub;
pub(crate) use keyed_workload::{keyed_workload, replaced};
pub(crate) use mock::Mock;
pub(crate) use mongo_stub::{Answer, MongoStub, all_well, failed, written};
pub(crate) use prometheus::{Prometheus, Sample};
pub(crate) use promql::Selector;
pub(crate) use promtool::promtool;
pub(crate) use pymongo::pymongo;
pub(crate) use reading::{ReadRecord, assert_same, read, read_as_group_with_kcat, read_with_kcat};
pub(crate) use scrape::{MetricsPage, Scrape};
pub(crate) use sdl::{Finished, Running, Sdl};
pub(crate) use sending::{Content, Numbered, Sender, edge_cases, numbered};
pub(crate) use taken_ids::taken_id_errors;
pub(crate) use terminal::Terminal;
pub(crate) use three_brokers::ThreeBrokers;
pub(crate) use tls_stub::TlsStub;
pub(crate) use token_server::{CLIENT_SECRET, TokenServer, token, token_until};
pub(crate) use watch::CommitWatch;

/// Returns a name that no other test and no other run uses, for a topic or a group.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970").as_millis();
    format!("{name}-{now:x}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a number that `scripts/chaos` sets, or the quick form's.
pub(crate) fn setting(name: &str, quick: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is not a number")),
        Err(_) => quick,
    }
}

/// Polls `answer` until it returns a value. Panics with `what` after `timeout`.
pub(crate) fn eventually<T>(what: &str, timeout: Duration, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(start.elapsed() < timeout, "{what}: not within {timeout:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
