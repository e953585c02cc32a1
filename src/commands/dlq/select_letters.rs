//! Flags that name dead letters and select some of them.

use std::path::Path;

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;

use crate::commands::Context;
use crate::commands::args::{DeadLetterTarget, check_range, parse_dead_letters, parse_position};
use crate::connectors::kafka::{Pos, TOPIC_NAME_RULE};
use crate::dlq::LetterSelection;
use crate::error::Error;
use crate::profile::KafkaSection;
use crate::record::Topic;

/// Where the letters are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LetterSourceArgs {
    /// The dead letters: the topic NAME, topic:SECTION/NAME or file:PATH
    #[arg(value_name = "LETTERS", value_parser = parse_letters)]
    pub(super) letters: DeadLetterTarget,
    /// Section of the profile with the topic, unless LETTERS names one
    #[arg(long, value_name = "SECTION", default_value = "local_kafka", value_parser = Text::new())]
    pub(super) source: String,
}

/// A place of dead letters, with its section.
pub(super) enum LetterPlace<'a> {
    Topic(Box<KafkaSection>, &'a str),
    File(&'a Path),
}

fn parse_letters(text: &str) -> Result<DeadLetterTarget, String> {
    if text.contains(':') {
        return parse_dead_letters(text).map_err(|_| "use NAME, topic:NAME, topic:SECTION/NAME or file:PATH".to_owned());
    }
    match text {
        "" => Err("a topic has a name".to_owned()),
        path if path.contains('/') => Err(format!("a topic has no slash in its name; a file is file:{path}")),
        name => Ok(DeadLetterTarget::Topic { section: None, name: name.to_owned() }),
    }
}

impl LetterSourceArgs {
    /// Returns the place.
    ///
    /// # Errors
    /// When the profile does not have the section, or Kafka does not allow the topic's name.
    pub(super) fn place(&self, context: &Context) -> Result<LetterPlace<'_>, Error> {
        match &self.letters {
            DeadLetterTarget::File(path) => Ok(LetterPlace::File(path)),
            DeadLetterTarget::Topic { name, .. } if !Topic::is_valid_name(name) => {
                Err(Error::Usage { what: format!("`{name}` is not a valid topic name"), hint: TOPIC_NAME_RULE.to_owned() })
            }
            DeadLetterTarget::Topic { section, name } => {
                let section = context.kafka(section.as_deref().unwrap_or(&self.source))?;
                Ok(LetterPlace::Topic(Box::new(section), name))
            }
        }
    }
}

/// Which of the letters are meant.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Selection (every condition must hold)")]
pub(super) struct LetterSelectionArgs {
    /// Only letters whose message or exception matches this regular expression, or with this cause, as `stats` shows it
    #[arg(long, value_name = "CAUSE", value_parser = Text::new())]
    cause: Option<String>,
    /// Only letters with this code: of sdl its own, of others the name of the exception; may be repeated
    #[arg(long, value_name = "CODE", value_parser = Text::new())]
    code: Vec<String>,
    /// Only letters whose field at this JSON path is bad; may be repeated
    #[arg(long, value_name = "PATH", value_parser = Text::new())]
    path: Vec<String>,
    /// Only letters whose record was read from this topic; may be repeated
    #[arg(long, value_name = "TOPIC", value_parser = Text::new())]
    from_topic: Vec<String>,
    /// Where to start: `beginning`, an offset, -N (N before the end), @UNIX or @RFC3339 or @DATE, @-1h; of a file only a time
    ///
    /// A letter of sdl has the timestamp of its record.
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    pub(super) start: Option<Pos>,
    /// Where to stop, likewise [default: the current end]
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    pub(super) stop: Option<Pos>,
}

impl LetterSelectionArgs {
    /// Returns the conditions.
    ///
    /// # Errors
    /// When the stop is before the start.
    pub(super) fn selection(&self) -> Result<LetterSelection, Error> {
        check_range(self.start, self.stop)?;
        Ok(LetterSelection {
            cause: self.cause.as_ref().map(|text| (text.clone(), Regex::new(text).ok())),
            codes: self.code.clone(),
            paths: self.path.clone(),
            topics: self.from_topic.clone(),
        })
    }
}
