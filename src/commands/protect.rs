//! Writes to clusters that the profile protects.

use std::io::IsTerminal as _;

use dialoguer::Confirm;

use crate::commands::Context;
use crate::commands::question::{self, Unanswered};
use crate::error::Error;
use crate::pipeline::{Failure, Refused};
use crate::profile::{KafkaSection, Protect};
use crate::record::Topic;

/// The hint for a target on a read-only cluster.
pub(crate) const OTHER_TARGET: &str = "name another section with --target, or change `protect` in the profile";

/// As [`OTHER_TARGET`], for a command that reads and writes one cluster, which its source names.
pub(crate) const OTHER_SOURCE: &str = "name another section with --source, or change `protect` in the profile";

/// As [`OTHER_TARGET`], for a replay into a topic.
pub(crate) const OTHER_REPLAY: &str = "name another topic with --to topic:SECTION/NAME, or change `protect` in the profile";

/// As [`OTHER_TARGET`], for a round trip, which is no part of the examination.
pub(crate) const NO_ROUNDTRIP: &str = "omit --roundtrip, or change `protect` in the profile";

/// Refuses to write to a read-only cluster; `hint` names another one.
///
/// # Errors
/// When it is one.
pub(crate) fn refuse_read_only(section: &KafkaSection, topics: &[Topic], hint: &str) -> Result<(), Error> {
    refuse_change(section, &write_to(topics), hint)
}

/// As [`refuse_read_only`], for a change that is described: "delete group `billing`".
///
/// # Errors
/// When the cluster is read-only.
pub(crate) fn refuse_change(section: &KafkaSection, what: &str, hint: &str) -> Result<(), Error> {
    match section.protect {
        Protect::Off | Protect::Confirm => Ok(()),
        Protect::ReadOnly => Err(Error::Refused(Refused {
            what: format!("`{}` is read-only (protect = readonly)", section.name),
            numbers: vec![format!("this would {what}")],
            hint: hint.to_owned(),
        })),
    }
}

fn write_to(topics: &[Topic]) -> String {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
    format!("write to {}", names.join(", "))
}

/// Asks for confirmation before a write to a protected cluster; never without a terminal.
///
/// # Errors
/// When the cluster is read-only, or the write is not confirmed.
pub(crate) fn confirm(context: &Context, section: &KafkaSection, topics: &[Topic]) -> Result<(), Error> {
    confirm_change(context, section, &write_to(topics))
}

/// As [`confirm`], for a change that is described.
///
/// # Errors
/// When the cluster is read-only, or the change is not confirmed.
pub(crate) fn confirm_change(context: &Context, section: &KafkaSection, what: &str) -> Result<(), Error> {
    refuse_change(section, what, OTHER_TARGET)?;
    match section.protect {
        Protect::Off | Protect::ReadOnly => Ok(()),
        Protect::Confirm => {
            let needed = format!("`{}` requires confirmation (protect = confirm), and there is no terminal", section.name);
            ask(context, &section.name, what, needed)
        }
    }
}

/// Asks for confirmation of a step that is always confirmed: "send 3 records back to topic `orders`"; never without a terminal.
///
/// # Errors
/// When the step is not confirmed.
pub(crate) fn confirm_step(context: &Context, section: &str, what: &str) -> Result<(), Error> {
    ask(context, section, what, "this requires confirmation, and there is no terminal".to_owned())
}

/// Asks whether to do `what`; `needed` is the error without a terminal.
fn ask(context: &Context, section: &str, what: &str, needed: String) -> Result<(), Error> {
    if context.global.yes {
        return Ok(());
    }
    let numbers = vec![format!("this would {what}")];
    if !(std::io::stdin().is_terminal() && context.screen.is_terminal()) {
        return Err(Error::Refused(Refused { what: needed, numbers, hint: "confirm with --yes".to_owned() }));
    }
    let prompt = format!("{what} on `{section}`?");
    let confirm = move || Confirm::new().with_prompt(prompt).default(false).wait_for_newline(true).interact();
    let what = match question::ask(&context.stop, confirm) {
        Ok(true) => return Ok(()),
        Ok(false) => "not confirmed",
        Err(Unanswered::Interrupted) => "interrupted, and not confirmed: nothing was changed",
        Err(Unanswered::Failed(error)) => return Err(Failure::new("cannot ask for confirmation").because(error).into()),
    };
    let hint = "run it again and answer yes".to_owned();
    Err(Error::Refused(Refused { what: what.to_owned(), numbers, hint }))
}
