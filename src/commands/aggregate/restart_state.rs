//! What a commit of this flow notes beside the offset: all that a restart needs to go on with open windows.

use serde::{Deserialize, Serialize};

/// The memo in the metadata of a committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RestartState {
    /// How far the partition was read.
    pub(super) read: i64,
    /// Until when windows are closed, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<i64>,
    /// Partition and offset of the last summary, which has the totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<(i32, i64)>,
}

impl RestartState {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_comes_back_as_it_was() {
        for memo in
            [RestartState { read: 7, closed: Some(-1), told: Some((0, 12)) }, RestartState { read: 0, closed: None, told: None }]
        {
            assert_eq!(RestartState::parse(&memo.text()), Some(memo));
        }
        assert_eq!(RestartState::parse("{}"), None);
    }
}
