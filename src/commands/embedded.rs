//! Two embedded clusters, and a profile for them.

use std::path::{Path, PathBuf};

use crate::connectors::kafka::EmbeddedCluster;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;

/// Two clusters in this process, `remote_kafka` and `local_kafka`, which end when dropped.
pub(crate) struct Embedded {
    pub(crate) remote: KafkaSection,
    pub(crate) local: KafkaSection,
    clusters: [EmbeddedCluster; 2],
}

impl Embedded {
    /// Starts the clusters; `group` is the default group of both sections, `topic` their default topic.
    ///
    /// # Errors
    /// When they cannot listen.
    pub(crate) fn start(group: &str, topic: &str) -> Result<Self, Error> {
        let clusters = [EmbeddedCluster::start(1)?, EmbeddedCluster::start(1)?];
        let section = |name: &str, cluster: &EmbeddedCluster| KafkaSection {
            name: name.to_owned(),
            servers: cluster.servers(),
            default_consumer_group_id: Some(group.to_owned()),
            default_consumer_topic: Some(topic.to_owned()),
            ..KafkaSection::default()
        };
        let [first, second] = &clusters;
        Ok(Self { remote: section("remote_kafka", first), local: section("local_kafka", second), clusters })
    }

    /// Creates a topic on both clusters.
    ///
    /// # Errors
    /// When the name is not valid.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        Ok(self.clusters.iter().try_for_each(|cluster| cluster.create_topic(name, partitions))?)
    }

    /// Returns a profile with both sections. A group of embedded brokers waits for a session, less a second, whenever a member joins: it
    /// is short.
    pub(crate) fn profile(&self) -> String {
        let section = |section: &KafkaSection| {
            let KafkaSection { name, servers, default_consumer_group_id, default_consumer_topic, .. } = section;
            let (group, topic) = (default_consumer_group_id.as_deref(), default_consumer_topic.as_deref());
            format!(
                "[{name}]\nservers = {servers}\ndefault_consumer_group_id = {}\ndefault_consumer_topic = {}\n\
                 kafka.session.timeout.ms = 6000\n",
                group.unwrap_or_default(),
                topic.unwrap_or_default()
            )
        };
        format!("{}\n{}", section(&self.remote), section(&self.local))
    }
}

/// A file that only its owner can read, deleted when dropped.
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Writes `text` to a new file: `path`, or a file in the temporary directory with `what` in its name.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub(crate) fn write(path: Option<PathBuf>, what: &str, text: &str) -> Result<Self, Error> {
        let name = || format!("sdl-{what}-{}-{:08x}.ini", std::process::id(), super::run::random());
        let hint = if path.is_some() { "name a new file in an existing directory" } else { "set TMPDIR to a writable directory" };
        let path = path.unwrap_or_else(|| std::env::temp_dir().join(name()));
        write_private(&path, text)
            .map_err(|error| Failure::new(format!("cannot write `{}`", path.display())).because(error).hint(hint))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A file that remains does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}
