//! The requests that a broker answers, and the release of Kafka that follows from them.

use std::collections::BTreeMap;

const FETCH: i16 = 1;
const INIT_PRODUCER_ID: i16 = 22;

/// Requests that a release introduced, newest first.
const INTRODUCED: [(i16, &str); 6] = [
    (75, "Kafka 3.8"), // DescribeTopicPartitions
    (65, "Kafka 3.0"), // DescribeTransactions
    (57, "Kafka 2.7"), // UpdateFeatures
    (43, "Kafka 2.4"), // ElectLeaders
    (44, "Kafka 2.3"), // IncrementalAlterConfigs
    (INIT_PRODUCER_ID, "Kafka 0.11"),
];

/// The oldest and the newest version of each request that a broker answers, by the request's number in the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiVersions(BTreeMap<i16, (i16, i16)>);

impl ApiVersions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the broker removes repetitions of an idempotent producer, which every writing command uses.
    pub(crate) fn has_idempotence(&self) -> bool {
        self.0.contains_key(&INIT_PRODUCER_ID)
    }

    /// Returns the oldest release with these requests.
    pub(crate) fn release(&self) -> Option<&'static str> {
        // It dropped the versions before.
        if self.0.get(&FETCH).is_some_and(|(oldest, _)| *oldest >= 4) {
            return Some("Kafka 4.0");
        }
        INTRODUCED.iter().find(|(api, _)| self.0.contains_key(api)).map(|(_, release)| *release)
    }

    /// Notes a line of librdkafka's log: `HOST:PORT/bootstrap:   ApiKey Fetch (1) Versions 4..17`.
    pub(super) fn note(&mut self, line: &str) {
        let parse = || {
            let (_, rest) = line.split_once("ApiKey ")?;
            let (key, versions) = rest.split_once(") Versions ")?;
            let (_, key) = key.rsplit_once('(')?;
            let (oldest, newest) = versions.trim().split_once("..")?;
            Some((key.parse().ok()?, (oldest.parse().ok()?, newest.parse().ok()?)))
        };
        self.0.extend(parse());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(apis: &[(i16, i16, i16)]) -> ApiVersions {
        let mut versions = ApiVersions::default();
        for (api, oldest, newest) in apis {
            versions.note(&format!("a:1/bootstrap:   ApiKey Some(Name) ({api}) Versions {oldest}..{newest}"));
        }
        versions
    }

    #[test]
    fn a_release_follows_from_the_requests_of_a_broker() {
        let newest = [(FETCH, 4, 17), (INIT_PRODUCER_ID, 0, 5), (75, 0, 0)];
        assert_eq!(of(&newest).release(), Some("Kafka 4.0"));
        assert_eq!(of(&[(FETCH, 0, 16), (INIT_PRODUCER_ID, 0, 4), (75, 0, 0)]).release(), Some("Kafka 3.8"));
        assert_eq!(of(&[(FETCH, 0, 11), (INIT_PRODUCER_ID, 0, 2), (43, 0, 2), (44, 0, 1)]).release(), Some("Kafka 2.4"));
        let old = of(&[(FETCH, 0, 3), (3, 0, 2)]);
        assert_eq!((old.release(), old.has_idempotence(), old.is_empty()), (None, false, false));
    }

    #[test]
    fn other_lines_of_the_log_are_ignored() {
        let mut versions = ApiVersions::default();
        for line in ["Broker API support:", " Feature X: Fetch (1..2) supported by broker", "ApiKey Fetch (x) Versions 1..2"] {
            versions.note(line);
        }
        assert!(versions.is_empty());
    }
}
