//! What has become of the place that documents are stored in.

/// What a look at an index or a collection has found, compared with the first look that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and is the one that it was.
    Same,
    /// It is not there, and has not been seen yet: the first write creates it.
    NotYet,
    /// The server gave no answer that says anything.
    Unknown,
    /// The server does not tell what it is, to this user or at all.
    Unwatchable,
    /// It was seen, and is not there any more.
    Deleted {
        /// What it was.
        id: String,
    },
    /// It was seen, and another one has its name.
    Replaced {
        /// What it was.
        old: String,
        /// What it is.
        new: String,
    },
}
