//! Distinguishes poison from outages: the detector, and the checks of the sink that replace neighbours.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::pipeline::Sink;
use crate::pipeline::policy::poison::PoisonDetector;

pub(super) struct PoisonWatch<K> {
    sink: Arc<K>,
    pub(super) detector: PoisonDetector,
    check: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl<K: Sink + 'static> PoisonWatch<K> {
    pub(super) fn new(sink: Arc<K>) -> Self {
        Self { sink, detector: PoisonDetector::default(), check: None }
    }

    pub(super) fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    /// Checks the sink, unless a check is under way.
    pub(super) fn start_check(&mut self) {
        let sink = &self.sink;
        self.check.get_or_insert_with(|| {
            let sink = Arc::clone(sink);
            Box::pin(async move { sink.is_available().await })
        });
    }

    /// Waits for the result of the check under way. Cancel-safe.
    pub(super) async fn result(&mut self) -> bool {
        match &mut self.check {
            Some(check) => check.await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn on_checked(&mut self, passed: bool) {
        self.check = None;
        self.detector.on_checked(passed);
    }
}
