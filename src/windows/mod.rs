//! Events counted in tumbling windows.

pub(crate) mod counts;
pub(crate) mod flow;
pub(crate) mod live_view;
pub(crate) mod output;
pub mod projection;
pub(crate) mod restart_state;
pub mod tumbling;
