//! `sdl dlq show` and `export`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _, stdout};
use std::ops::ControlFlow;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::commands::Context;
use crate::commands::args::parse_count;
use crate::commands::dlq::reading::{read_letters, say_read};
use crate::commands::dlq::select_letters::{LetterSelectionArgs, LetterSourceArgs};
use crate::commands::dlq::stats::time;
use crate::connectors::ndjson::write;
use crate::dlq::Letter;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Record;
use crate::terminal::{Cell, Column, Listing, ListingFormat, PrettyPrinter, escape_controls};

/// Show dead letters: why they failed, where they come from, and the record
///
/// Without PLACE the newest of the selected letters. The record is shown with its original coordinates, and without the headers of
/// the letter.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(super) struct ShowLetterArgs {
    #[command(flatten)]
    source: LetterSourceArgs,
    /// The letter: PARTITION@OFFSET or OFFSET in a topic, also as `stats` writes it (bad-logins/0@42); in a file its line
    #[arg(value_name = "PLACE", value_parser = parse_place)]
    place: Option<LetterNumber>,
    #[command(flatten)]
    select: LetterSelectionArgs,
    /// Show the newest N letters, which are held in memory
    #[arg(short = 'n', long, value_name = "N", default_value = "1", value_parser = parse_count, conflicts_with = "place")]
    count: u64,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    output: ListingFormat,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  sdl dlq show bad-logins
  sdl dlq show bad-logins 0@42
  sdl dlq show file:bad-logins.ndjson 17 -o json
  sdl dlq show bad-logins --code wrong_type -n 5";

/// Write dead letters as lines of JSON, for `import` and for files of dead letters
///
/// Each line has the original coordinates, and all headers of the letter: what `--dead-letters file:PATH` writes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportLettersArgs {
    #[command(flatten)]
    source: LetterSourceArgs,
    #[command(flatten)]
    select: LetterSelectionArgs,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  sdl dlq export bad-logins > bad-logins.ndjson
  sdl dlq export connect-dlq --code DataException --start @-1d > today.ndjson";

/// The partition, 0 without one, and the offset; or a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LetterNumber(i32, i64);

fn parse_place(text: &str) -> Result<LetterNumber, String> {
    let wrong = || "use PARTITION@OFFSET, OFFSET or the number of a line".to_owned();
    let text = text.rsplit_once('/').map_or(text, |(_, place)| place);
    let (partition, offset) = text.split_once('@').unwrap_or(("0", text));
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0).ok_or_else(wrong);
    Ok(LetterNumber(i32::try_from(number(partition)?).map_err(|_| wrong())?, number(offset)?))
}

impl ShowLetterArgs {
    /// Shows the letters.
    ///
    /// # Errors
    /// When the letters cannot be read, or the one that is named is not there.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let place = self.source.place(context)?;
        let most = usize::try_from(self.count).unwrap_or(usize::MAX);
        let wanted = self.place;
        let keep = move |kept: &mut VecDeque<Record>, record: &Record, _: &Letter| match wanted {
            Some(LetterNumber(index, offset)) if (record.partition.index, record.offset) == (index, offset) => {
                kept.push_back(record.clone());
                ControlFlow::Break(())
            }
            Some(_) => ControlFlow::Continue(()),
            None => {
                if kept.len() >= most {
                    kept.pop_front();
                }
                kept.push_back(record.clone());
                ControlFlow::Continue(())
            }
        };
        let (kept, read) = read_letters(&place, &self.select, None, VecDeque::new(), keep).await?;
        if let (Some(LetterNumber(index, offset)), true) = (wanted, kept.is_empty()) {
            let failure = Failure::new(format!("there is no dead letter at {index}@{offset}, or it is not selected"));
            return Err(failure.hint("`sdl dlq stats` names a letter of each cause").into());
        }
        let letters: Vec<(Record, Letter)> =
            kept.into_iter().filter_map(|record| Letter::of(&record.headers).map(|letter| (record, letter))).collect();
        if self.output == ListingFormat::Table {
            let color = context.global.color.on(stdout().is_terminal());
            let printer = PrettyPrinter::new(100, color, jiff::tz::TimeZone::system(), "-o json has them in base64");
            for (number, (record, letter)) in letters.iter().enumerate() {
                let gap = if number > 0 { "\n" } else { "" };
                context.print(&format!("{gap}{}", described(record, letter, &printer)))?;
            }
        } else {
            context.print(&listing(&letters).render(self.output))?;
        }
        if wanted.is_none() {
            say_read(context, &read);
        }
        Ok(())
    }
}

/// Returns the cause in lines, and the original record.
fn described(record: &Record, letter: &Letter, printer: &PrettyPrinter) -> String {
    let mut text = format!("letter    {record}, written by {}\n", letter.writer.name());
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<10}{}", escape_controls(value));
        }
    };
    line("code", Some(letter.code()));
    line("cause", letter.message.as_deref());
    line("path", letter.path.as_deref());
    line("exception", letter.class.as_deref().filter(|class| !class.starts_with("sdl.")));
    line("stage", letter.stage.as_deref());
    line("attempts", letter.attempts.map(|attempts| attempts.to_string()).as_deref());
    line("flow", letter.flow.as_deref());
    line("run", letter.run.as_deref());
    line("replays", Some(letter.replays).filter(|replays| *replays > 0).map(|replays| replays.to_string()).as_deref());
    line("before", Some(letter.earlier.join(", ")).filter(|earlier| !earlier.is_empty()).as_deref());
    let original = letter.original(record);
    // The counter is that of the next replay.
    let headers = original.headers[..original.headers.len() - 1].to_vec();
    let mut shown = Vec::new();
    printer.write(&Record { headers, ..original }.view(), &mut shown);
    text.push_str("record    ");
    text + &String::from_utf8_lossy(&shown)
}

fn listing(letters: &[(Record, Letter)]) -> Listing {
    let columns = [
        Column::Text("letter"),
        Column::Text("written_by"),
        Column::Text("code"),
        Column::Text("path"),
        Column::Text("message"),
        Column::Text("exception"),
        Column::Text("stage"),
        Column::Number("attempts"),
        Column::Number("replays"),
        Column::Text("earlier_codes"),
        Column::Text("flow"),
        Column::Text("run"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("offset"),
        Column::Text("time"),
        Column::Text("key"),
        Column::Text("key_base64"),
        Column::Text("value"),
        Column::Text("value_base64"),
    ];
    let mut listing = Listing::new("letters", &columns);
    let text =
        |bytes: &Option<bytes::Bytes>| bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
    let base64 = |bytes: &Option<bytes::Bytes>| {
        bytes.as_deref().filter(|bytes| std::str::from_utf8(bytes).is_err()).map(|bytes| BASE64_STANDARD.encode(bytes))
    };
    let cell = |text: Option<String>| text.map_or(Cell::Empty, Cell::Text);
    for (record, letter) in letters {
        let earlier = serde_json::json!(letter.earlier);
        listing.push([
            Cell::Text(record.to_string()),
            letter.writer.name().into(),
            letter.code().into(),
            letter.path.as_deref().into(),
            letter.message.as_deref().into(),
            letter.class.as_deref().into(),
            letter.stage.as_deref().into(),
            letter.attempts.map(i64::from).into(),
            i64::from(letter.replays).into(),
            Cell::Display(letter.earlier.join(", "), earlier),
            letter.flow.as_deref().into(),
            letter.run.as_deref().into(),
            letter.topic.as_deref().into(),
            letter.partition.map(i64::from).into(),
            letter.offset.into(),
            time(letter.timestamp.or(record.timestamp)),
            cell(text(&record.key)),
            cell(base64(&record.key)),
            cell(text(&record.value)),
            cell(base64(&record.value)),
        ]);
    }
    listing
}

impl ExportLettersArgs {
    /// Writes the letters.
    ///
    /// # Errors
    /// When the letters cannot be read, or stdout fails.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let place = self.source.place(context)?;
        let out = BufWriter::with_capacity(1 << 17, stdout());
        let write_line = |(out, failed): &mut (BufWriter<Stdout>, Option<io::Error>), record: &Record, letter: &Letter| {
            let mut line = Vec::with_capacity(record.bytes() + 512);
            let original = letter.original(record);
            write(&Record { headers: record.headers.clone(), ..original }.view(), &mut line);
            match out.write_all(&line) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let ((mut out, failed), read) = read_letters(&place, &self.select, None, (out, None), write_line).await?;
        match failed {
            Some(error) => return Err(error.into()),
            None => out.flush()?,
        }
        say_read(context, &read);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_its_place() {
        assert_eq!(parse_place("3@42"), Ok(LetterNumber(3, 42)));
        assert_eq!(parse_place("bad-logins/3@42"), Ok(LetterNumber(3, 42)));
        assert_eq!(parse_place("./bad.ndjson/0@7"), Ok(LetterNumber(0, 7)));
        assert_eq!(parse_place("17"), Ok(LetterNumber(0, 17)));
        for wrong in ["", "@", "x@1", "1@x", "-1"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
