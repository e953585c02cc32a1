//! The environment that a profile is read from.

use std::io;
use std::path::Path;

/// A file that was found, as one open file: what is known of its owner holds for its bytes.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// The content.
    pub bytes: Vec<u8>,
    /// Whether it is owned by another user than this one or root, or others can write it.
    pub is_foreign: bool,
}

/// Environment variables and files: of the system, or of a test.
pub trait Environment {
    /// Returns the variable `name`, if it is set and is UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns the names of all variables, sorted.
    fn variable_names(&self) -> Vec<String>;

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Returns the file, and whether somebody else may have written it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn find(&self, path: &Path) -> io::Result<FoundFile> {
        Ok(FoundFile { bytes: self.read(path)?, is_foreign: false })
    }

    /// Returns whether users other than the owner can read the file.
    fn others_can_read(&self, path: &Path) -> bool;
}

/// An environment without variables and files.
pub(crate) struct EmptyEnvironment;

impl Environment for EmptyEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn variable_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn others_can_read(&self, _: &Path) -> bool {
        false
    }
}
