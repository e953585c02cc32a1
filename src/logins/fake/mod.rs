//! Fake user-login events: seeded, and as a source.

mod generator;
mod plan;
mod random;
mod render;
mod source;
mod user;

pub use generator::Generator;
pub use plan::FakePlan;
pub(crate) use plan::{Clock, LateEvents, Malformed, Missing, RecordKey, TimestampFormat};
pub(crate) use random::Fraction;
pub(crate) use source::FakeLogins;
