//! Flags of progress, summary and metrics.

use std::net::SocketAddr;

use crate::commands::args::numbers::parse_whole;
use crate::report::parse_address;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reporting")]
pub(crate) struct ReportArgs {
    /// Without a terminal: one status line per N records, and at least every 10 s
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = parse_whole::<u64>(1, u64::MAX))]
    pub(crate) log_interval: u64,
    /// Format of the summary: `text` on stderr, or `json` on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: SummaryFormat,
    /// Show the plan, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Serve a status page and Prometheus metrics at this address (9464, 0.0.0.0:9464) during the run: /, /metrics, /healthz, /readyz
    ///
    /// A port alone listens on the loopback interface. /readyz is 200 while partitions are assigned and records are accepted.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SummaryFormat {
    /// Text
    #[default]
    Text,
    /// One JSON document
    Json,
}
