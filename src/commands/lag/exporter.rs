//! `--metrics`: surveys repeatedly and serves the last report to Prometheus.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::commands::Context;
use crate::commands::lag::repeated_survey::RepeatedSurvey;
use crate::commands::lag::rows::By;
use crate::commands::lag::{Args, prom};
use crate::error::Error;
use crate::lag::SurveyedCluster;
use crate::report::{Endpoint, Monitored};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
/// A report older than its interval and this is stale.
const STALE_AFTER: Duration = Duration::from_secs(30);

struct MetricsPage {
    every: Duration,
    last: Mutex<Option<RenderedReport>>,
}

struct RenderedReport {
    text: Bytes,
    at: Instant,
    any_cluster: bool,
}

impl Monitored for MetricsPage {
    fn metrics(&self) -> Bytes {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or_else(Bytes::new, |report| report.text.clone())
    }

    fn ready(&self) -> Result<(), String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let report = last.as_ref().ok_or("the first query is not complete")?;
        if report.at.elapsed() > self.every + STALE_AFTER {
            return Err(format!("the last query is {} s old", report.at.elapsed().as_secs()));
        }
        if report.any_cluster { Ok(()) } else { Err("no cluster answers".to_owned()) }
    }
}

/// Serves metrics until interrupted. A cluster that does not answer is reported as down and surveyed again.
///
/// # Errors
/// When the address cannot be bound.
pub(super) async fn export(
    args: &Args,
    address: SocketAddr,
    clusters: Vec<SurveyedCluster>,
    context: &Context,
) -> Result<(), Error> {
    let every = args.repeat.interval.unwrap_or(DEFAULT_INTERVAL);
    let page = Arc::new(MetricsPage { every, last: Mutex::new(None) });
    let endpoint =
        Endpoint::listen(address).await.map_err(|failure| failure.hint("choose another address with --metrics ADDR"))?;
    context.say(&format!("Serving metrics at http://{}/metrics until interrupted.\n", endpoint.address()));
    let serving = tokio::spawn(endpoint.serve(Arc::clone(&page) as Arc<dyn Monitored>));
    let mut surveys = RepeatedSurvey::new(args, clusters, every, context);
    let mut down = BTreeSet::new();
    while let Some(report) = surveys.next().await {
        for survey in report.surveys.iter().filter(|survey| down.remove(&survey.section)) {
            tracing::info!(section = survey.section, "The cluster answers again.");
        }
        for (section, error) in &report.failures {
            if down.insert(section.clone()) {
                tracing::warn!(section, "{error}.");
            }
        }
        let rendered = RenderedReport {
            text: prom::page(&report, By::Partition).into(),
            at: Instant::now(),
            any_cluster: !report.surveys.is_empty(),
        };
        *page.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(rendered);
    }
    serving.abort();
    Ok(())
}
