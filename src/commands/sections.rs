//! Sections of the profile, with their warnings told.

use std::io::{IsTerminal as _, Write as _, stderr};

use clap::builder::styling::AnsiColor;

use crate::commands::Context;
use crate::error::Error;
use crate::profile::{ElasticSection, KafkaSection, MongoSection};

impl Context {
    /// Returns the Kafka section called `name`, and tells its warnings.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, Error> {
        let section = self.profile.kafka(name)?;
        self.warn(&section.warnings());
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
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn elastic(&self, name: &str) -> Result<ElasticSection, Error> {
        let section = self.profile.elastic(name)?;
        self.warn(&section.warnings());
        Ok(section)
    }

    /// Tells warnings on stderr, a line each; not with `--quiet`.
    pub fn warn(&self, warnings: &[String]) {
        if self.global.quiet {
            return;
        }
        let style = if self.global.color.on(stderr().is_terminal()) {
            AnsiColor::Red.on_default().bold()
        } else {
            clap::builder::styling::Style::new()
        };
        for warning in warnings {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(stderr(), "{style}warning:{style:#} {warning}");
        }
    }
}
