//! What the terminal is told: harmless text, and rows as a table, JSON or CSV.

mod harmless;
mod listing;

pub use harmless::{harmless, harmless_json};
pub use listing::{Cell, Column, Format, Listing, span};
