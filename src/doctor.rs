//! The examination of a server, step by step: what works, what does not, and the key to change. Nothing is changed, except by the
//! round trip.

pub(crate) mod elastic;
pub(crate) mod kafka;
pub(crate) mod mongo;
mod probes;
mod report;

pub(crate) use probes::Probes;
pub(crate) use report::{DestinationName, DoctorReport, Step, StepStatus};
