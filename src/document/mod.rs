//! Records as documents: what a document is called, which version it is, where it goes, and what is told beside its payload.
//!
//! Pure, and shared by the sinks that store documents. A payload is looked at once, as text: what is not asked for is only
//! checked to be JSON.

mod identity;
mod mapper;
mod metadata;
mod name_template;
mod poison;

pub use identity::{Ids, Version};
pub use mapper::{Document, DocumentMapper, InvalidOptions, ParsedPayload, RawValues, WRAPPED};
pub use metadata::{MetadataFieldNames as MetaNames, MetadataFields};
pub use name_template::{GRAMMAR as TEMPLATE_GRAMMAR, NamePattern, NameTemplate};
pub use poison::PoisonDetector;
