//! `sdl dlq stats`.

use std::ops::ControlFlow;

use serde_json::json;

use crate::commands::Context;
use crate::commands::dlq::reading::{earlier_letters, read_letters, say_read};
use crate::commands::dlq::select_letters::{LetterSelectionArgs, LetterSourceArgs};
use crate::dlq::{Letter, LetterStats, NewestLetters};
use crate::error::Error;
use crate::record::Record;
use crate::report::counted;
use crate::terminal::{Cell, Column, Listing, ListingFormat};

/// The most characters of a cause in a table.
const MAX_CAUSE_SHOWN: usize = 80;

/// Count dead letters by cause and JSON path
///
/// CAUSE is the message without what differs from letter to letter: <n> stands for a number, <text> for a quoted value, <id>, <uuid>
/// and <time>. FIRST and LAST are times of records. `show LETTERS PLACE` shows the EXAMPLE, the newest letter of the cause. Joins no
/// group and commits nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    source: LetterSourceArgs,
    #[command(flatten)]
    select: LetterSelectionArgs,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    output: ListingFormat,
}

const EXAMPLES: &str = "\
Examples:
  sdl dlq stats bad-logins
  sdl dlq stats file:bad-logins.ndjson --start @-1h
  sdl dlq stats topic:remote_kafka/connect-dlq -o json | jq '.causes[] | {count, cause}'";

impl StatsArgs {
    /// Prints the counts.
    ///
    /// # Errors
    /// When the letters cannot be read, or there are none among the records.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let place = self.source.place(context)?;
        let count = |(stats, newest): &mut (LetterStats, NewestLetters), record: &Record, letter: &Letter| {
            stats.add(record, letter);
            newest.add(record, letter);
            ControlFlow::Continue(())
        };
        let counts = (LetterStats::default(), NewestLetters::new(true));
        let ((stats, newest), read) = read_letters(&place, &self.select, None, counts, count).await?;
        if self.output != ListingFormat::Table || stats.letters > 0 {
            context.print_listing(listing(&stats), self.output, &["first", "last", "path"])?;
        }
        say_read(context, &read);
        if newest.earlier() > 0 {
            let (letters, earlier) = (counted(stats.letters, "dead letter"), newest.earlier());
            let records = counted(stats.letters - earlier, "record");
            context.say(&format!("{letters} of {records}: {}\n", earlier_letters(earlier)));
        }
        Ok(())
    }
}

/// Returns the causes as rows.
pub(super) fn listing(stats: &LetterStats) -> Listing {
    let columns = [
        Column::Number("count"),
        Column::Text("code"),
        Column::Text("path"),
        Column::Text("cause"),
        Column::Text("first"),
        Column::Text("last"),
        Column::Text("example"),
        Column::Text("message"),
    ];
    let mut listing = Listing::new("causes", &columns);
    for group in stats.causes() {
        listing.push([
            i64::try_from(group.count).unwrap_or(i64::MAX).into(),
            group.code.as_str().into(),
            group.path.as_deref().into(),
            Cell::Display(shortened(&group.cause), json!(group.cause)),
            time(group.first),
            time(group.last),
            group.example.as_str().into(),
            group.message.as_deref().into(),
        ]);
    }
    listing.hide_in_table(|name, is_empty| name == "message" || (name == "path" && is_empty));
    listing
}

fn shortened(cause: &str) -> String {
    match cause.char_indices().nth(MAX_CAUSE_SHOWN) {
        Some((end, _)) => cause[..end].trim_end_matches('…').to_owned() + "…",
        None => cause.to_owned(),
    }
}

/// Returns a time: in a table to the second, for programs to the millisecond.
pub(super) fn time(millis: Option<i64>) -> Cell {
    let time = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map_or(Cell::Empty, |time| Cell::Display(format!("{time:.0}"), json!(time.to_string())))
}
