//! Records as documents: what a document is called, which version it is, where it goes, and what is told beside its payload.
//!
//! Pure, and shared by the sinks that store documents. A payload is looked at once, as text: what is not asked for is only
//! checked to be JSON.

mod identity;
mod meta;
mod patience;
mod reading;
mod template;

pub use identity::{Ids, Version};
pub use meta::{Meta, Names as MetaNames};
pub use patience::Patience;
pub use reading::{Document, Payload, RawValues, Reading, Unfit, WRAPPED};
pub use template::{GRAMMAR as TEMPLATE_GRAMMAR, Naming, Template};
