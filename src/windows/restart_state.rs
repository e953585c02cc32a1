//! The extension of a commit's metadata that lets a restart continue with open windows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::connectors::kafka::{ReadPlan, commit_extension};
use crate::pipeline::Refused;
use crate::record::Partition;

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

/// Returns the state that the last run committed with each partition.
///
/// # Errors
/// When a partition ends before the offset that was read.
pub(crate) fn restart_states(plan: &ReadPlan) -> Result<BTreeMap<Partition, RestartState>, Refused> {
    let mut states = BTreeMap::new();
    for planned in &plan.partitions {
        let Some(committed) = &planned.committed else { continue };
        let Some(state) = commit_extension(&committed.metadata).and_then(|text| RestartState::parse(&text)) else { continue };
        if planned.start == committed.next && state.read > planned.end {
            return Err(Refused {
                what: format!("{} ends before the offset that was read: it was truncated or re-created", planned.partition),
                numbers: vec![format!("read so far: {}", state.read), format!("log end:     {}", planned.end)],
                hint: "read the topic again from its beginning".to_owned(),
            });
        }
        states.insert(planned.partition, state);
    }
    Ok(states)
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
