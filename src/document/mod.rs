//! Records as documents: id, version, names and metadata of a document, and the owner of a stored one.
//!
//! Pure but for one warning ([`field_check`]), and shared by the document sinks. A payload is parsed once; unneeded fields are only validated as JSON.

mod disagreement;
mod field_check;
mod first_look;
mod identity;
mod mapper;
mod metadata;
mod name_template;
mod ownership;
mod presence;
mod soundness;

pub(crate) use disagreement::{Contradiction, Disagreements};
pub(crate) use first_look::FirstLook;
pub use identity::{Ids, Version};
pub(crate) use mapper::{Document, DocumentBatch, ParsedPayload, WRAPPED};
pub use mapper::{DocumentMapper, RawValues};
pub(crate) use metadata::MetadataFieldNames as MetaNames;
pub use metadata::MetadataFields;
pub use name_template::{GRAMMAR as TEMPLATE_GRAMMAR, NamePattern, NameTemplate};
pub(crate) use ownership::{Owner, StoredMetadata, deciding_fields, of_failed_lookup, overtaken, version_field};
pub use presence::Presence;
pub use soundness::{Unsound, check_deletes, check_topics};
