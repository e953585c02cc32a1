//! Output: escaped text, rows as tables, JSON or CSV, and records for people.

mod byte_encoding;
mod escape;
mod hex_dump;
mod json_layout;
mod line_format;
mod listing;
mod pretty;
mod streaming_table;

pub(crate) use byte_encoding::ByteEncoding;
pub(crate) use escape::{escape_controls, escape_controls_json, escape_controls_text};
pub(crate) use line_format::LineFormat;
pub(crate) use listing::{Cell, Column, Listing, ListingFormat, human_duration};
pub(crate) use pretty::{PrettyPrinter, format_utc};
pub(crate) use streaming_table::StreamingTable;
