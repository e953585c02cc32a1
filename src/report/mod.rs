//! Observers of a run, and its summary.

mod endpoint;
mod exposition;
mod histogram;
mod log;
mod metrics;
mod pages;
mod probe;
mod progress;
mod recent_rate;
mod run_status;
mod scan_bar;
mod screen;
mod status_document;
mod summary;

pub(crate) use crate::number::{counted, grouped, were};

pub(crate) use endpoint::{Endpoint, parse_address};
pub(crate) use exposition::{Exposition, MetricKind};

pub(crate) use log::{LogObserver, LogOptions, check_log_file, init, log_error, log_summary};
pub(crate) use metrics::{ExtraMetrics, Metrics};
pub(crate) use pages::Monitored;
pub(crate) use probe::{ProbeAddress, probe};
pub(crate) use progress::{ExtraLines, RunBar, StatusLines};
pub(crate) use run_status::{Hindrance, RunInfo, RunStatus};
pub(crate) use scan_bar::ScanBar;
pub(crate) use screen::Screen;
pub(crate) use summary::Summary;
