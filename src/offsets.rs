//! Changes of committed offsets from outside: what would change, whether it may, and files of positions.

mod change;
mod file;
mod import;
mod reset;
mod translate;

pub(crate) use change::{OffsetChange, Offsets, commit_changes, committed, flows};
pub(crate) use file::{GroupOffset, parse_file, write_csv};
pub(crate) use import::{GroupChanges, ImportPlan, LeftOut, plan_import};
pub(crate) use reset::{ResetPlan, ResetRequest, ResetTarget, plan_reset};
pub(crate) use translate::{TranslatePlan, TranslateRules, TranslatedGroup, TranslatedPosition, Translator};
