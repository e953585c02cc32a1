//! `sdl replicate` between two real clusters. `scripts/test` runs these; `scripts/chaos` runs the long forms.

use std::time::Duration;

use crate::harness::{
    CheckReport, Clusters, CommitWatch, Content, Finished, Running, Sdl, Sender, check, eventually, numbered, read_with_kcat,
    unique,
};

mod bad_records;
mod copies;
mod faults;
mod kills;
mod members;
mod proxied;
mod refusals;
mod secured;

/// A topic of the source that is replicated to the target under the same name.
struct Flow {
    clusters: Clusters,
    topic: String,
    group: String,
    partitions: i32,
    settings: String,
}

impl Flow {
    /// Returns a flow of a new topic; other tests may run at the same time.
    #[track_caller]
    fn new(name: &str, partitions: i32) -> Self {
        Self::on(Clusters::shared(), name, partitions)
    }

    /// Returns a flow whose test may stop, kill or freeze the servers.
    #[track_caller]
    fn alone(name: &str, partitions: i32) -> Self {
        Self::on(Clusters::exclusive(), name, partitions)
    }

    #[track_caller]
    fn on(clusters: Clusters, name: &str, partitions: i32) -> Self {
        let topic = unique(name);
        clusters.source.create_topic(&topic, partitions, &[]);
        Self { clusters, group: topic.clone(), topic, partitions, settings: String::new() }
    }

    /// Adds a line such as `kafka.session.timeout.ms = 6000` to the source's section.
    fn with(mut self, setting: &str) -> Self {
        self.settings += setting;
        self.settings.push('\n');
        self
    }

    fn profile(&self) -> String {
        self.clusters.profile(&self.group).replacen("\n\n", &format!("\n{}\n", self.settings), 1)
    }

    /// Returns `sdl replicate` of this flow with more flags; one of them may name another group.
    fn sdl(&self, flags: &str) -> Sdl {
        let group = if flags.contains("--group") { String::new() } else { format!("--group {}", self.group) };
        Sdl::new(&format!("replicate {} {group} {flags}", self.topic)).profile(&self.profile())
    }

    /// Runs to the ends that the topic has now and returns the run, which must succeed.
    #[track_caller]
    fn catch_up(&self, flags: &str) -> Finished {
        self.sdl(&format!("--until-caught-up -o json {flags}")).run().expect(0)
    }

    /// Sends numbered records to the source, from `from` on.
    fn send(&self, from: u64, count: u64) -> Vec<(i32, Content)> {
        let records = numbered(1, from, count, self.partitions);
        Sender::new(&self.clusters.source, &[("compression.type", "lz4")]).send(&self.topic, &records);
        records
    }

    /// Waits until the target holds this many records.
    #[track_caller]
    fn until_delivered(&self, running: &mut Running, count: u64) {
        running.wait_for_count(&self.clusters.target, &self.topic, count);
    }

    /// Compares the target with the sent records.
    #[track_caller]
    fn verdict(&self, sent: &[(i32, Content)]) -> CheckReport {
        check(sent, &read_with_kcat(&self.clusters.target, &self.topic))
    }

    /// Panics unless the target holds every sent record in order; repeats are allowed.
    #[track_caller]
    fn assert_complete(&self, sent: &[(i32, Content)]) {
        let verdict = self.verdict(sent);
        assert!(verdict.is_complete(), "{verdict:?}");
    }

    /// Panics unless the target holds every sent record once and in order.
    #[track_caller]
    fn assert_exact(&self, sent: &[(i32, Content)]) {
        let verdict = self.verdict(sent);
        assert!(verdict.is_exact(), "{verdict:?}");
    }

    /// Returns the committed offset of each partition, 0 where there is none.
    #[track_caller]
    fn committed(&self) -> Vec<i64> {
        self.clusters.source.committed(&self.group, &self.topic).into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Returns the end of each partition of the source.
    #[track_caller]
    fn ends(&self) -> Vec<i64> {
        self.clusters.source.offsets(&self.topic).into_iter().map(|(_, end)| end).collect()
    }

    /// Panics unless every record of the source is committed.
    #[track_caller]
    fn assert_committed(&self) {
        assert_eq!(self.committed(), self.ends());
    }

    /// Waits until every record of the source is committed.
    #[track_caller]
    fn until_committed(&self) {
        eventually("everything is committed", Duration::from_secs(120), || (self.committed() == self.ends()).then_some(()));
    }

    /// Starts to watch the commits.
    fn watch_commits(&self) -> CommitWatch {
        CommitWatch::start(&self.clusters.source, &self.group, &self.topic)
    }
}

/// Returns records with these keys and values, spread over this many partitions.
fn records(contents: impl IntoIterator<Item = (Option<&'static str>, Option<String>)>, partitions: i32) -> Vec<(i32, Content)> {
    let bytes = |text: String| text.into_bytes();
    (0..)
        .zip(contents)
        .map(|(index, (key, value))| {
            let key = key.map(|key| bytes(key.to_owned()));
            let timestamp = Some(1_700_000_000_000 + 1_000 * i64::from(index));
            let content = Content { timestamp, key, value: value.map(bytes), headers: Vec::new() };
            (index % partitions, content)
        })
        .collect()
}
