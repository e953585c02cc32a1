//! The result of shaping a value.

use std::fmt;

use bytes::Bytes;

/// The result of shaping a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeResult {
    /// The value passes: unchanged, or as the new text.
    Keep(Option<Bytes>),
    /// A condition does not hold.
    Filtered,
    /// The value cannot be shaped.
    Bad(ShapeError),
}

/// Why a value cannot be shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// A stable code: `missing_field`.
    pub code: &'static str,
    /// The reason, for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The field at fault.
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
