//! Surveys at an interval, until the command is interrupted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::commands::Context;
use crate::commands::lag::Args;
use crate::lag::{LagFilter, LagReport, SurveyedCluster, survey_all};

pub(super) struct RepeatedSurvey {
    clusters: Vec<SurveyedCluster>,
    filter: LagFilter,
    ticks: Interval,
    stop: watch::Receiver<bool>,
}

impl RepeatedSurvey {
    pub(super) fn new(args: &Args, clusters: Vec<SurveyedCluster>, every: Duration, context: &Context) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { clusters, filter: args.filter(), ticks, stop: context.stop.receiver() }
    }

    /// Returns the next report; `None` once the command is interrupted.
    pub(super) async fn next(&mut self) -> Option<LagReport> {
        let survey = async {
            self.ticks.tick().await;
            survey_all(&mut self.clusters, &self.filter).await
        };
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => None,
            report = survey => Some(report),
        }
    }
}
