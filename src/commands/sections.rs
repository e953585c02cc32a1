//! Sections of the profile, with their warnings logged.

use std::collections::HashSet;

use crate::commands::Context;
use crate::connectors::{elastic, kafka};
use crate::error::Error;
use crate::profile::{ElasticSection, KafkaSection, MongoSection, SectionKind};

impl Context {
    /// Returns the Kafka section `name`, and logs its warnings.
    ///
    /// # Errors
    /// When it does not exist or has another type, a value is missing or wrong, or a file or property cannot be used.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, Error> {
        let section = self.profile.kafka(name)?;
        Self::warn(&section.warnings());
        kafka::check(&section).map_err(Error::Section)?;
        Ok(section)
    }

    /// Returns the named Kafka sections, each once; without names all of the profile.
    ///
    /// # Errors
    /// As [`Self::kafka`].
    pub(crate) fn kafka_clusters(&self, names: &[String]) -> Result<Vec<KafkaSection>, Error> {
        let mut names = names.to_vec();
        if names.is_empty() {
            names = self.profile.names_of(SectionKind::Kafka).map(str::to_owned).collect();
        }
        if names.is_empty() {
            // The error for a missing section explains how to add it.
            names.push("local_kafka".to_owned());
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.iter().map(|name| self.kafka(name)).collect()
    }

    /// Returns the MongoDB section `name`.
    ///
    /// # Errors
    /// When it does not exist or has another type, or a value is missing or wrong.
    pub fn mongo(&self, name: &str) -> Result<MongoSection, Error> {
        Ok(self.profile.mongo(name)?)
    }

    /// Returns the Elasticsearch or OpenSearch section `name`, and logs its warnings.
    ///
    /// # Errors
    /// When it does not exist or has another type, a value is missing or wrong, or a file cannot be used.
    pub fn elastic(&self, name: &str) -> Result<ElasticSection, Error> {
        let section = self.profile.elastic(name)?;
        Self::warn(&section.warnings());
        elastic::check(&section).map_err(Error::Section)?;
        Ok(section)
    }

    pub(crate) fn warn(warnings: &[String]) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }
}
