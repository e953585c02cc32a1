//! What shaping says of a value.

use std::fmt;

use bytes::Bytes;

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeResult {
    /// It goes on: as it is, or as the new text.
    Keep(Option<Bytes>),
    /// It is not wanted.
    Filtered,
    /// It cannot be shaped.
    Bad(ShapeError),
}

/// Why a value cannot be shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// Short and stable: `missing_field`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// What helps, if something does.
    pub hint: Option<String>,
    /// The field at fault, if it is one.
    pub path: Option<String>,
}

impl ShapeError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, path: None }
    }

    pub(super) fn at(mut self, path: impl fmt::Display) -> Self {
        self.path = Some(path.to_string());
        self
    }
}
