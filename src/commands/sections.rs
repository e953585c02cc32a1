//! Sections of the profile, with their warnings told.

use crate::commands::Context;
use crate::connectors::{elastic, kafka};
use crate::error::Error;
use crate::profile::{ElasticSection, KafkaSection, MongoSection};

impl Context {
    /// Returns the Kafka section called `name`, and tells its warnings.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong, or a file or property does not serve.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, Error> {
        let section = self.profile.kafka(name)?;
        self.warn(&section.warnings());
        kafka::check(&section).map_err(Error::Section)?;
        Ok(section)
    }

    /// Returns the MongoDB section called `name`.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn mongo(&self, name: &str) -> Result<MongoSection, Error> {
        Ok(self.profile.mongo(name)?)
    }

    /// Returns the Elasticsearch or OpenSearch section called `name`, and tells its warnings.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong, or a file does not serve.
    pub fn elastic(&self, name: &str) -> Result<ElasticSection, Error> {
        let section = self.profile.elastic(name)?;
        self.warn(&section.warnings());
        elastic::check(&section).map_err(Error::Section)?;
        Ok(section)
    }

    /// Tells warnings in the log.
    pub fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }
}
