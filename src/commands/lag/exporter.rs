//! The exporter: looks again and again, and tells Prometheus what it saw last.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

use crate::commands::lag::survey::SurveyedCluster;
use crate::commands::lag::{Args, look, prom};
use crate::commands::{Context, run};
use crate::error::Error;
use crate::report::{Endpoint, Monitored};

/// How often the clusters are looked at unless told.
const INTERVAL: Duration = Duration::from_secs(15);
/// How much longer than its interval a round may take.
const SLACK: Duration = Duration::from_secs(30);

/// What was seen last.
struct Page {
    every: Duration,
    last: Mutex<Option<Seen>>,
}

struct Seen {
    text: Bytes,
    at: Instant,
    any: bool,
}

impl Monitored for Page {
    fn metrics(&self) -> Bytes {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or_else(Bytes::new, |seen| seen.text.clone())
    }

    fn ready(&self) -> Result<(), String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = last.as_ref().ok_or("the first look is not over yet")?;
        if seen.at.elapsed() > self.every + SLACK {
            return Err(format!("the last look is {} s old", seen.at.elapsed().as_secs()));
        }
        if seen.any { Ok(()) } else { Err("no cluster answers".to_owned()) }
    }
}

/// Serves metrics until it is interrupted. A cluster that does not answer is said to be down, and asked again.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) async fn export(
    args: &Args,
    address: SocketAddr,
    mut clusters: Vec<SurveyedCluster>,
    context: &Context,
) -> Result<(), Error> {
    let mut stop = run::stop_signal()?;
    let every = args.repeat.interval.unwrap_or(INTERVAL);
    let page = Arc::new(Page { every, last: Mutex::new(None) });
    let endpoint =
        Endpoint::listen(address).await.map_err(|failure| failure.hint("choose another address with --metrics ADDR"))?;
    context.say(&format!("Serving metrics at http://{}/metrics until interrupted.\n", endpoint.address()));
    let serving = tokio::spawn(endpoint.serve(Arc::clone(&page) as Arc<dyn Monitored>));
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut down = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        let round = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            round = look(&mut clusters, &args.selection) => round,
        };
        for survey in round.surveys.iter().filter(|survey| down.remove(&survey.section)) {
            tracing::info!(section = survey.section, "The cluster answers again.");
        }
        for (section, trouble) in &round.troubles {
            if down.insert(section.clone()) {
                let (what, causes) = trouble.what_and_causes();
                tracing::warn!(section, causes = causes.join(": "), "{what}.");
            }
        }
        let seen = Seen { text: prom::page(&round).into(), at: Instant::now(), any: !round.surveys.is_empty() };
        *page.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
    serving.abort();
    Ok(())
}
