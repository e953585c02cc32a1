//! The profile, `database.ini`.

mod kafka;
mod secret;

pub use kafka::{KafkaSection, Protect};
pub use secret::Secret;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ProfileError {
    what: String,
}

impl ProfileError {
    /// Returns the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns one thing to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// A loaded profile.
#[derive(Debug, Default)]
pub struct Profile {}

impl Profile {
    /// Returns the Kafka section called `name`.
    ///
    /// # Errors
    /// When there is none, or when it lacks a key.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, ProfileError> {
        Err(ProfileError { what: format!("no section `{name}`") })
    }
}
