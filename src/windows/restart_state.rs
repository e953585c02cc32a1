//! The extension of a commit's metadata that lets a restart continue with open windows.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestartState {
    /// The next offset to read; the committed offset is where the oldest open window begins.
    pub(crate) read: i64,
    /// Windows that end at or before this time are closed; milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<i64>,
    /// Partition and offset of the last summary, which holds the totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_output: Option<(i32, i64)>,
}

impl RestartState {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_state_survives_its_text_form() {
        for state in [
            RestartState { read: 7, closed: Some(-1), last_output: Some((0, 12)) },
            RestartState { read: 0, closed: None, last_output: None },
        ] {
            assert_eq!(RestartState::parse(&state.text()), Some(state));
        }
        assert_eq!(RestartState::parse("{}"), None);
    }
}
