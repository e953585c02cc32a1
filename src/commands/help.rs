//! `sdl help`.

mod reference;

use std::io::Write as _;

use clap::Command;

use crate::commands::Context;
use crate::commands::args::nearest;
use crate::error::Error;

/// Help topics besides the commands.
const TOPICS: [(&str, &str); 4] = [
    ("offsets", include_str!("help/offsets.txt")),
    ("formats", include_str!("help/formats.txt")),
    ("guarantees", include_str!("help/guarantees.txt")),
    ("exit-codes", include_str!("help/exit-codes.txt")),
];

/// The exit codes, in few words; `sdl help exit-codes` has more.
pub(crate) const EXIT_CODES: [(u8, &str); 7] = [
    (0, "done"),
    (1, "failed"),
    (2, "usage or profile"),
    (3, "a record needs attention"),
    (4, "a check failed"),
    (5, "refused for safety"),
    (130, "interrupted twice"),
];

/// Explain a command, or one of: offsets, formats, guarantees, exit-codes
///
/// Without an argument, lists the commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A command (`replicate`, `profile show`), or a topic: offsets, formats, guarantees, exit-codes
    #[arg(value_name = "COMMAND|TOPIC")]
    words: Vec<String>,
    /// Print the command and its subcommands as JSON: arguments, flags, defaults, values, and the exit codes
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Prints the explanation; `root` is the whole command line.
    ///
    /// # Errors
    /// When the command or topic is unknown, or stdout fails.
    pub fn run(self, context: &Context, mut root: Command) -> Result<(), Error> {
        if self.json {
            root.build();
            return context.print(&reference::json(find(&mut root, &self.words)?));
        }
        if let Some((_, text)) = self.topic() {
            return Ok(std::io::stdout().write_all(text.as_bytes())?);
        }
        root = root.color(context.global.color.into());
        root.build();
        Ok(find(&mut root, &self.words)?.print_long_help()?)
    }

    fn topic(&self) -> Option<&'static (&'static str, &'static str)> {
        let [word] = self.words.as_slice() else { return None };
        TOPICS.iter().find(|(name, _)| name == word)
    }
}

/// Returns the command that the words name, below `root`; without words `root` itself.
///
/// # Errors
/// When there is no such command.
pub(crate) fn find<'c>(root: &'c mut Command, words: &[String]) -> Result<&'c mut Command, Error> {
    let mut command = root;
    for word in words {
        if command.find_subcommand(word).is_none() {
            return Err(unknown(word, command));
        }
        command = command.find_subcommand_mut(word).expect("it exists");
    }
    Ok(command)
}

fn unknown(word: &str, command: &Command) -> Error {
    let is_topic = TOPICS.iter().any(|(name, _)| *name == word);
    let usage = |hint: String| Error::Usage { what: format!("there is no help for `{word}`"), hint };
    if is_topic {
        let what = format!("`{word}` is a help topic, which stands alone");
        return Error::Usage { what, hint: format!("see `sdl help {word}`") };
    }
    if !command.has_subcommands() {
        return usage(format!("`{0}` has no subcommands; see `{0} --help`", command.get_bin_name().unwrap_or_default()));
    }
    let mut known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    // Only the root command has topics, one of which is called like a command.
    let topics = TOPICS.iter().map(|(name, _)| *name).filter(|_| command.get_name() == "sdl");
    for topic in topics {
        if !known.contains(&topic) {
            known.push(topic);
        }
    }
    let hint = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("choose one of: {}", known.join(", ")),
    };
    usage(hint)
}

/// Returns the help topics, for completions.
pub(crate) fn topics() -> [&'static str; 4] {
    TOPICS.map(|(name, _)| name)
}
