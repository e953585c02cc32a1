//! Polls the commits of a group during a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Cluster;

/// A thread that polls the commits of a group.
pub(crate) struct CommitWatch {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Vec<String>>,
}

impl CommitWatch {
    /// Starts to watch.
    pub(crate) fn start(cluster: &Cluster, group: &str, topic: &str) -> Self {
        let (cluster, group, topic) = (cluster.clone(), group.to_owned(), topic.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watching = std::thread::spawn(move || {
            let (mut before, mut steps_back) = (Vec::<Option<i64>>::new(), Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                let now = cluster.committed(&group, &topic);
                for (partition, (then, now)) in before.iter().zip(&now).enumerate() {
                    if now < then {
                        steps_back.push(format!("partition {partition} went from {then:?} to {now:?}"));
                    }
                }
                before = now;
                std::thread::sleep(Duration::from_millis(20));
            }
            steps_back
        });
        Self { stop, watching }
    }

    /// Stops watching. Panics if a committed offset was seen to go back.
    #[track_caller]
    pub(crate) fn assert_monotonic(self) {
        self.stop.store(true, Ordering::SeqCst);
        let steps_back = self.watching.join().expect("the cluster responded");
        assert!(steps_back.is_empty(), "commits went back: {steps_back:?}");
    }
}
