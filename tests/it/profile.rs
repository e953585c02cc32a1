//! The profile: its keys, and the precedence of values.

mod access;
mod example;
mod places;
mod reading;
mod sections;
mod shown;
mod values;
mod wizard;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sdl::profile::{Environment, FoundFile, KafkaSection, Profile, ProfileError};

/// Variables and files that exist in a test only.
#[derive(Clone, Default)]
pub(crate) struct Made {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    exposed: bool,
    foreign: bool,
}

impl Made {
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.as_bytes().to_vec());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn exposed(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Lets somebody else own every file.
    fn foreign(mut self) -> Self {
        self.foreign = true;
        self
    }

    pub(crate) fn load(self) -> Result<Profile, ProfileError> {
        Profile::load(None, Arc::new(self))
    }
}

impl Environment for Made {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn variable_names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn find(&self, path: &Path) -> io::Result<FoundFile> {
        Ok(FoundFile { bytes: self.read(path)?, is_foreign: self.foreign })
    }

    fn others_can_read(&self, _: &Path) -> bool {
        self.exposed
    }
}

pub(crate) fn profile(text: &str) -> Made {
    Made::default().file("./database.ini", text)
}

/// Returns the section `local_kafka` with these lines.
fn kafka(lines: &str) -> Result<KafkaSection, ProfileError> {
    profile(&format!("[local_kafka]\n{lines}")).load().and_then(|profile| profile.kafka("local_kafka"))
}

/// Returns the causes of the error.
fn cause<T: std::fmt::Debug>(outcome: Result<T, ProfileError>) -> String {
    outcome.unwrap_err().causes().join("; ")
}
