//! What the terminal is told: harmless text, rows as a table, JSON or CSV, and records in the forms that people read.

mod dump;
mod escape;
mod format;
mod json;
mod listing;
mod pretty;
mod rows;
mod writing;

pub use escape::{escape_controls, escape_controls_json, escape_controls_text};
pub use format::LineFormat;
pub use listing::{Cell, Column, Format, Listing, span};
pub use pretty::{Pretty, utc};
pub use rows::Rows;
pub use writing::ByteEncoding;
