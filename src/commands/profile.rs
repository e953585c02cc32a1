//! `sdl profile`.

mod draft;
mod init;

use std::io::Write as _;

use crate::commands::Context;
use crate::error::Error;
use crate::profile::{Profile, ProfileError, SectionKind};
use crate::terminal::{Column, Listing, ListingFormat};

/// List, show or write the profile
///
/// The profile is an INI file with one section per server. Without an argument, lists the sections.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the sections with their types and servers
    List {
        /// Output format
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: ListingFormat,
    },
    /// Show every value with its origin, secrets hidden
    ///
    /// A value whose variable or file is missing is marked, and makes the exit code 2.
    Show {
        /// The section to show [default: all]
        section: Option<String>,
        /// Output format
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: ListingFormat,
    },
    /// Write a profile: asks questions and tests each connection
    ///
    /// Writes to the file that --profile or `$SDL_PROFILE` names, else to ./database.ini, readable only by its owner. Never
    /// overwrites a file without asking.
    Init,
}

impl Args {
    /// Returns whether the command reads the profile.
    #[must_use]
    pub fn needs_profile(&self) -> bool {
        !matches!(self.action, Some(Action::Init))
    }

    /// Returns whether the values of all sections are shown.
    pub(crate) fn shows_every_section(&self) -> bool {
        matches!(self.action, Some(Action::Show { section: None, .. }))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// When the profile is wrong, or stdout fails.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match self.action.unwrap_or(Action::List { output: ListingFormat::Table }) {
            Action::List { output } => list(context, output),
            Action::Show { section, output } => show(context, section.as_deref(), output),
            Action::Init => init::run(context).await,
        }
    }
}

fn list(context: &Context, output: ListingFormat) -> Result<(), Error> {
    let profile = nonempty(context)?;
    let columns = [Column::Text("section"), Column::Text("type"), Column::Text("servers"), Column::Text("from")];
    let mut listing = Listing::new("sections", &columns);
    for name in profile.section_names() {
        let (kind, servers) = (profile.kind(name).map(SectionKind::as_str), profile.servers(name));
        listing.push([name.into(), kind.into(), servers.as_deref().into(), profile.location(name).as_str().into()]);
    }
    print(&listing, output)
}

fn show(context: &Context, section: Option<&str>, output: ListingFormat) -> Result<(), Error> {
    let names: Vec<_> = match section {
        Some(name) => vec![name],
        None => nonempty(context)?.section_names().collect(),
    };
    let columns = [Column::Text("section"), Column::Text("key"), Column::Text("value"), Column::Text("from")];
    let mut listing = Listing::new("values", &columns);
    let mut missing = None;
    for name in names {
        for shown in context.profile.displayed_values(name)? {
            let checked = context.profile.check_references(name, &shown);
            let flaw = checked.as_ref().err().and_then(ProfileError::missing_reference);
            let value = flaw.map_or_else(|| shown.value.clone(), |flaw| format!("{} ({flaw})", shown.value));
            listing.push([
                name.into(),
                shown.key.as_str().into(),
                value.as_str().into(),
                shown.origin.to_string().as_str().into(),
            ]);
            missing = missing.or(checked.err());
        }
    }
    print(&listing, output)?;
    missing.map_or(Ok(()), |error| Err(error.into()))
}

fn print(listing: &Listing, output: ListingFormat) -> Result<(), Error> {
    Ok(std::io::stdout().write_all(listing.render(output).as_bytes())?)
}

/// Returns the profile, unless it has no section.
fn nonempty(context: &Context) -> Result<&Profile, Error> {
    let profile = &context.profile;
    if profile.section_names().next().is_some() {
        return Ok(profile);
    }
    let searched: Vec<_> = profile.searched().iter().map(|path| path.display().to_string()).collect();
    let what = match profile.path() {
        Some(path) => format!("{} has no sections", path.display()),
        None => format!("no profile found, searched {}", searched.join(", ")),
    };
    Err(Error::Usage { what, hint: "create one with `sdl profile init`".to_owned() })
}
