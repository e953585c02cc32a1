//! Records as documents: the id of a document, its version, its place, its metadata, and whose document stands under an id already.
//!
//! Pure, and shared by the sinks that store documents. A payload is parsed once, as text: a field that nothing needs is only checked
//! to be JSON.

mod disagreement;
mod first_look;
mod identity;
mod mapper;
mod metadata;
mod name_template;
mod ownership;
mod soundness;

pub(crate) use disagreement::Disagreements;
pub(crate) use first_look::FirstLook;
pub use identity::{Ids, Version};
pub(crate) use mapper::{Document, DocumentBatch, ParsedPayload, WRAPPED};
pub use mapper::{DocumentMapper, RawValues};
pub(crate) use metadata::MetadataFieldNames as MetaNames;
pub use metadata::MetadataFields;
pub use name_template::{GRAMMAR as TEMPLATE_GRAMMAR, NamePattern, NameTemplate};
pub(crate) use ownership::{Owner, StoredMetadata, deciding_fields, overtaken, version_field};
pub use soundness::{Unsound, check_deletes, check_topics};
