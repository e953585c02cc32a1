//! What the terminal is told: harmless text, rows as a table, JSON or CSV, and records in the forms that people read.

mod dump;
mod format;
mod harmless;
mod json;
mod listing;
mod pretty;
mod rows;
mod writing;

pub use format::LineFormat;
pub use harmless::{harmless, harmless_json, harmless_text};
pub use listing::{Cell, Column, Format, Listing, span};
pub use pretty::{Pretty, utc};
pub use rows::Rows;
pub use writing::Writing;
