//! Clusters that the profile protects.

use std::io::IsTerminal as _;

use crate::commands::Context;
use crate::error::Error;
use crate::pipeline::{Failure, Refused};
use crate::profile::{KafkaSection, Protect};

/// Asks before something is written to a protected cluster; never without a terminal.
///
/// # Errors
/// When the cluster may not be written to, or nobody confirmed.
pub(crate) fn confirm(context: &Context, section: &KafkaSection, what: &str) -> Result<(), Error> {
    match section.protect {
        Protect::Off => Ok(()),
        Protect::ReadOnly => Err(Error::Refused(Refused {
            what: format!("`{}` may not be written to (protect = readonly)", section.name),
            numbers: vec![format!("this would {what}")],
            hint: "name another section with --target, or change `protect` in the profile".to_owned(),
        })),
        Protect::Confirm if context.global.yes => Ok(()),
        Protect::Confirm if !(std::io::stdin().is_terminal() && context.screen.is_terminal()) => Err(Error::Refused(Refused {
            what: format!("`{}` asks for a confirmation (protect = confirm), and there is no terminal", section.name),
            numbers: vec![format!("this would {what}")],
            hint: "confirm with --yes".to_owned(),
        })),
        Protect::Confirm => {
            let question = format!("{what} on `{}`?", section.name);
            let asked = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
            if asked.map_err(|error| Failure::new("cannot ask for a confirmation").because(error))? {
                return Ok(());
            }
            Err(Error::Refused(Refused {
                what: "not confirmed".to_owned(),
                numbers: vec![format!("this would {what}")],
                hint: "run it again and say yes".to_owned(),
            }))
        }
    }
}
