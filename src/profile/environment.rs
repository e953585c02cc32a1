//! What a profile is read from.

use std::io;
use std::path::Path;

/// The variables and files that a profile may be made of: those of the machine, or those of a test.
pub trait Environment {
    /// Returns the variable `name`, if it is set and is text.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns the names of all variables, sorted.
    fn variable_names(&self) -> Vec<String>;

    /// Returns the file's bytes.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Returns whether people other than the owner can read the file.
    fn others_can_read(&self, path: &Path) -> bool;
}

/// No variables and no files.
pub(crate) struct Nothing;

impl Environment for Nothing {
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
