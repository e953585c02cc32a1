//! One file, one subcommand: profile, source, sink, run.

pub mod completions;
mod global;
mod machine;
pub mod produce_fake;
pub mod profile;
mod rate;
mod shaping;

pub use global::{Color, Global, LogFormat};
pub use machine::Machine;
pub use shaping::{Shaping, transform};

use crate::profile::Profile;

/// What every command is given besides its own arguments.
#[derive(Debug)]
pub struct Context {
    /// The profile; empty when no file was found and none was named.
    pub profile: Profile,
    /// The flags that every command has.
    pub global: Global,
}
