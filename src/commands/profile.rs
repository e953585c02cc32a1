//! `sdl profile`.

mod draft;
mod init;

use std::io::Write as _;

use clap::ValueEnum;
use serde_json::json;
use tabled::builder::Builder;
use tabled::settings::{Padding, Style};

use crate::commands::Context;
use crate::error::Error;
use crate::profile::{Kind, Profile, Shown};

/// List, show or write the profile
///
/// The profile is an INI file with a section for each server. Without a word more, the sections are listed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the sections: what each is, and where its servers are
    List {
        /// How to write it
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Show every value with its origin, secrets hidden
    Show {
        /// The section to show [default: all]
        section: Option<String>,
        /// How to write it
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: Output,
    },
    /// Write a profile: asks what it needs and tests each connection
    ///
    /// Written to the file that --profile or `$SDL_PROFILE` names, else to ./database.ini, readable by you alone. Never overwrites a file without
    /// asking.
    Init,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Args {
    /// Returns whether the profile is read: it need not be there to be written.
    #[must_use]
    pub fn needs_profile(&self) -> bool {
        !matches!(self.action, Some(Action::Init))
    }

    /// Does what was asked for; lists the sections without a word.
    ///
    /// # Errors
    /// When the profile is wrong or standard output cannot be written to.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match self.action.unwrap_or(Action::List { output: Output::Table }) {
            Action::List { output } => list(context, output),
            Action::Show { section, output } => show(context, section.as_deref(), output),
            Action::Init => init::run(context).await,
        }
    }
}

fn list(context: &Context, output: Output) -> Result<(), Error> {
    let profile = some_sections(context)?;
    let kind = |name| profile.kind(name).map(Kind::as_str);
    match output {
        Output::Table => {
            let rows = profile
                .section_names()
                .map(|name| [name.to_owned(), kind(name).unwrap_or("-").to_owned(), profile.servers(name), profile.place(name)]);
            write_table(["SECTION", "TYPE", "SERVERS", "FROM"], rows)
        }
        Output::Json => {
            let section =
                |name| json!({"name": name, "type": kind(name), "servers": profile.servers(name), "from": profile.place(name)});
            let sections: Vec<_> = profile.section_names().map(section).collect();
            write_json(&json!({"schema": 1, "profile": profile.path(), "sections": sections}))
        }
    }
}

fn show(context: &Context, section: Option<&str>, output: Output) -> Result<(), Error> {
    let names: Vec<_> = match section {
        Some(name) => vec![name],
        None => some_sections(context)?.section_names().collect(),
    };
    let mut values = Vec::new();
    for name in names {
        values.extend(context.profile.shown(name)?.into_iter().map(|shown| (name.to_owned(), shown)));
    }
    match output {
        Output::Table => {
            let rows = values.into_iter().map(|(section, shown)| [section, shown.key, shown.value, shown.origin.to_string()]);
            write_table(["SECTION", "KEY", "VALUE", "FROM"], rows)
        }
        Output::Json => {
            let value = |(section, shown): (String, Shown)| json!({"section": section, "key": shown.key, "value": shown.value, "from": shown.origin.to_string()});
            let values: Vec<_> = values.into_iter().map(value).collect();
            write_json(&json!({"schema": 1, "profile": context.profile.path(), "values": values}))
        }
    }
}

/// Returns the profile, if there is anything in it.
fn some_sections(context: &Context) -> Result<&Profile, Error> {
    let profile = &context.profile;
    if profile.section_names().next().is_some() {
        return Ok(profile);
    }
    let searched: Vec<_> = profile.searched().iter().map(|path| path.display().to_string()).collect();
    let what = match profile.path() {
        Some(path) => format!("there is no section in {}", path.display()),
        None => format!("no profile was found, neither of {}", searched.join(", ")),
    };
    Err(Error::Usage { what, hint: "run `sdl profile init`".to_owned() })
}

fn write_table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Result<(), Error> {
    let mut table = Builder::new();
    table.push_record(header);
    rows.for_each(|row| table.push_record(row));
    let table = table.build().with(Style::empty()).with(Padding::new(0, 2, 0, 0)).to_string();
    let mut stdout = std::io::stdout().lock();
    table.lines().try_for_each(|line| writeln!(stdout, "{}", line.trim_end()))?;
    Ok(())
}

fn write_json(document: &serde_json::Value) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{document:#}")?)
}
