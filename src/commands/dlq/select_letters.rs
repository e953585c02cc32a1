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

    /// Returns the positions between which letters are selected; `None` for all that there are. A time before now is the same text in
    /// every run.
    pub(super) fn bounds(&self) -> Option<String> {
        let bound = |pos: Option<Pos>, outermost: Pos| {
            pos.filter(|pos| ![outermost, Pos::Committed].contains(pos)).map_or_else(String::new, |pos| pos.to_string())
        };
        let (start, stop) = (bound(self.start, Pos::Beginning), bound(self.stop, Pos::End));
        (!start.is_empty() || !stop.is_empty()).then(|| format!("from {start} to {stop}"))
    }

    /// Returns whether letters are read from the beginning once more.
    pub(super) fn starts_over(&self) -> bool {
        self.start == Some(Pos::Beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_select_letters_unless_they_are_the_outermost_ones() {
        let bounds = |start: Option<&str>, stop: Option<&str>| {
            let pos = |text: Option<&str>| text.map(|text| parse_position(text).unwrap());
            let (start, stop) = (pos(start), pos(stop));
            let none = || (None, Vec::new());
            let ((cause, code), (path, from_topic)) = (none(), (Vec::new(), Vec::new()));
            LetterSelectionArgs { cause, code, path, from_topic, start, stop }.bounds()
        };
        for outermost in [(None, None), (Some("beginning"), None), (Some("committed"), Some("end"))] {
            assert_eq!(bounds(outermost.0, outermost.1), None, "{outermost:?}");
        }
        assert_eq!(bounds(Some("@-1h"), None), bounds(Some("@-60m"), Some("end")));
        let distinct = [
            bounds(Some("@-1h"), None),
            bounds(None, Some("@-1h")),
            bounds(Some("@-2h"), Some("@-1h")),
            bounds(Some("7"), None),
            bounds(Some("-7"), None),
        ];
        for (number, one) in distinct.iter().enumerate() {
            assert!(one.is_some() && distinct.iter().skip(number + 1).all(|other| other != one), "{distinct:?}");
        }
    }
}
