//! `sdl health`.

use crate::commands::Context;
use crate::error::Error;
use crate::report::{ProbeAddress, probe};

/// Ask a running sdl whether it is alive or ready: a health check for images without a shell
///
/// Asks /healthz, or /readyz with --ready, of a run that was started with --metrics ADDR, and prints the answer. Exit code 0 when the
/// answer is yes, else 1; after 10 s at most.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address of the run's metrics: a port (9464), or a host and a port (sink:9464)
    #[arg(value_name = "ADDR")]
    address: ProbeAddress,
    /// Ask whether it is ready: partitions are assigned, and records are accepted
    #[arg(long)]
    ready: bool,
}

const EXAMPLES: &str = "\
Examples:
  sdl health 9464
  sdl health sink:9464 --ready";

impl Args {
    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// When the answer is no, or there is none.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let answer = probe(&self.address, path).await?;
        context.print(&format!("{answer}\n"))
    }
}
