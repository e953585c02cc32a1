//! The user-login domain.
