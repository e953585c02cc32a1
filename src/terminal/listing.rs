//! Rows as a table, JSON, NDJSON or CSV.

use serde_json::{Map, Value, json};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::escape::{escape_controls, escape_controls_json};

/// An output format for rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListingFormat {
    /// Columns for people.
    #[default]
    Table,
    /// One document.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// Comma-separated, with a header line.
    Csv,
}

/// A column; its name is the key in JSON and CSV, and in capitals the heading of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Text, left-aligned.
    Text(&'static str),
    /// Numbers, right-aligned.
    Number(&'static str),
    /// Durations, right-aligned. The name ends in `_seconds`; the heading does not.
    Duration(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) | Self::Duration(name) => name,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Text(_))
    }

    fn heading(self) -> String {
        let name = match self {
            Self::Duration(name) => name.trim_end_matches("_seconds"),
            Self::Text(name) | Self::Number(name) => name,
        };
        name.replace('_', " ").to_uppercase()
    }
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(i64),
    /// Unknown or not applicable: `-` in a table, null in JSON, empty in CSV.
    Empty,
    /// Different text for people and programs: `1.2 MB` and 1234567.
    Display(String, Value),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Display(text, _) => escape_controls(text).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Empty => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Empty => Value::Null,
            Self::Display(_, value) => value.clone(),
        }
    }

    fn csv(&self) -> String {
        let plain = match self.json() {
            Value::String(text) => escape_controls(&text).into_owned(),
            Value::Null => String::new(),
            Value::Array(values) => {
                let words: Vec<_> =
                    values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
                escape_controls(&words.join(" ")).into_owned()
            }
            value => value.to_string(),
        };
        if plain.contains(['"', ',']) { format!("\"{}\"", plain.replace('"', "\"\"")) } else { plain }
    }
}

/// Rows under columns.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// The columns that a table hides.
    hidden: Vec<bool>,
    omit_header: bool,
    /// The most columns of the terminal that a table takes.
    width: Option<usize>,
    /// Whether the last column is wrapped rather than cut.
    wraps: bool,
}

impl Listing {
    /// Returns an empty listing; `name` is the key of the rows in a JSON document.
    #[must_use]
    pub(crate) fn new(name: &'static str, columns: &[Column]) -> Self {
        let hidden = vec![false; columns.len()];
        Self { name, columns: columns.to_vec(), rows: Vec::new(), hidden, omit_header: false, width: None, wraps: false }
    }

    /// Adds a row, one cell per column.
    pub(crate) fn push(&mut self, row: impl Into<Vec<Cell>>) {
        let row = row.into();
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(row);
    }

    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sets whether CSV leaves out the header line because the rows continue an earlier output.
    pub(crate) fn omit_header(&mut self, continues: bool) {
        self.omit_header = continues;
    }

    /// Hides the columns for which `hide(name, is_empty)` is true from tables.
    pub(crate) fn hide_in_table(&mut self, hide: impl Fn(&str, bool) -> bool) {
        for (number, column) in self.columns.iter().enumerate() {
            let is_empty = self.rows.iter().all(|row| matches!(row[number].text().as_str(), "-" | ""));
            self.hidden[number] = hide(column.name(), is_empty);
        }
    }

    /// Sorts the rows by a column of numbers, the largest first and unknown ones last.
    pub(crate) fn sort_by_largest(&mut self, name: &str) {
        let Some(at) = self.columns.iter().position(|column| column.name() == name) else { return };
        let number = |row: &Vec<Cell>| if let Cell::Number(number) = &row[at] { Some(*number) } else { None };
        self.rows.sort_by_key(|row| std::cmp::Reverse(number(row)));
    }

    /// Hides columns from the table, the first of `names` first, until it is at most `width` columns wide.
    pub(crate) fn fit(&mut self, width: usize, names: &[&str]) {
        for name in names {
            if self.table().lines().all(|line| line.width() <= width) {
                return;
            }
            let hidden = self.columns.iter().zip(&mut self.hidden).filter(|(column, _)| column.name() == *name);
            hidden.for_each(|(_, hidden)| *hidden = true);
        }
    }

    /// Wraps the last column of a table that is too wide, rather than cutting it.
    pub(crate) fn wrap_last(&mut self) {
        self.wraps = true;
    }

    /// Makes the table at most `width` columns wide, as far as possible: hides columns, the first of `less_important` first, until the
    /// texts have some room, and cuts the widest texts.
    pub(crate) fn fit_terminal(&mut self, width: usize, less_important: &[&str]) {
        self.width = Some(width);
        for name in less_important {
            let (columns, cells) = self.shown();
            if least_width(&columns, &cells) <= width {
                return;
            }
            let hidden = self.columns.iter().zip(&mut self.hidden).filter(|(column, _)| column.name() == *name);
            hidden.for_each(|(_, hidden)| *hidden = true);
        }
    }

    /// Returns the rows in `format`, with the last line feed. JSON carries `"schema": 1`.
    #[must_use]
    pub(crate) fn render(&self, format: ListingFormat) -> String {
        match format {
            ListingFormat::Table => self.table(),
            ListingFormat::Csv => {
                let names = self.columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>();
                let rows = self.rows.iter().map(|row| row.iter().map(Cell::csv).collect());
                std::iter::once(names).filter(|_| !self.omit_header).chain(rows).map(|row| row.join(",") + "\r\n").collect()
            }
            ListingFormat::Json => {
                let rows: Vec<_> = self.rows.iter().map(|row| Value::Object(self.object(row))).collect();
                let document = json!({ "schema": 1, self.name: rows });
                escape_controls_json(&format!("{document:#}\n")).into_owned()
            }
            ListingFormat::Ndjson => {
                let line = |row: &Vec<Cell>| {
                    let mut object = self.object(row);
                    object.insert("schema".to_owned(), json!(1));
                    format!("{}\n", Value::Object(object))
                };
                escape_controls_json(&self.rows.iter().map(line).collect::<String>()).into_owned()
            }
        }
    }

    fn object(&self, row: &[Cell]) -> Map<String, Value> {
        self.columns.iter().zip(row).map(|(column, cell)| (column.name().to_owned(), cell.json())).collect()
    }

    /// Returns the columns of the table, and its lines: the headings and the rows.
    fn shown(&self) -> (Vec<Column>, Vec<Vec<String>>) {
        let columns: Vec<_> =
            self.columns.iter().zip(&self.hidden).filter(|(_, out)| !**out).map(|(column, _)| *column).collect();
        let headings = columns.iter().map(|column| column.heading()).collect();
        let row = |row: &Vec<Cell>| row.iter().zip(&self.hidden).filter(|(_, out)| !**out).map(|(cell, _)| cell.text()).collect();
        let cells = std::iter::once(headings).chain(self.rows.iter().map(row)).collect();
        (columns, cells)
    }

    fn table(&self) -> String {
        let (columns, mut cells) = self.shown();
        if let Some(width) = self.width {
            shrink(&columns, &mut cells, width, self.wraps);
        }
        let mut builder = Builder::with_capacity(cells.len(), columns.len());
        for line in cells {
            builder.push_record(line);
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
        for (number, column) in columns.iter().enumerate() {
            if !column.is_text() {
                table.modify(Columns::one(number), Alignment::right());
            }
        }
        table.to_string().lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }
}

/// The blanks between two columns.
const GAP: usize = 2;
/// A column of texts is not made narrower than this.
const MIN_TEXT_WIDTH: usize = 12;
/// The room that a column of texts has before other columns are hidden.
const ENOUGH_TEXT_WIDTH: usize = 24;

/// Returns the width of each column.
fn widths(cells: &[Vec<String>]) -> Vec<usize> {
    let of = |number: usize| cells.iter().map(|line| line[number].width()).max().unwrap_or(0);
    (0..cells.first().map_or(0, Vec::len)).map(of).collect()
}

/// Returns the width of a table whose columns have these widths.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Returns the width of the table if its texts have enough room.
fn least_width(columns: &[Column], cells: &[Vec<String>]) -> usize {
    let least = |(column, width): (&Column, usize)| if column.is_text() { width.min(ENOUGH_TEXT_WIDTH) } else { width };
    total(&columns.iter().zip(widths(cells)).map(least).collect::<Vec<_>>())
}

/// Cuts the widest texts until the table is at most `width` columns wide, as far as possible; `wraps` the last column instead.
fn shrink(columns: &[Column], cells: &mut [Vec<String>], width: usize, wraps: bool) {
    let mut limits = widths(cells);
    while total(&limits) > width {
        let texts = || (0..limits.len()).filter(|number| columns[*number].is_text());
        let Some(widest) = texts().max_by_key(|number| limits[*number]).filter(|it| limits[*it] > MIN_TEXT_WIDTH) else { break };
        // As narrow as the next one at most, which is cut then too.
        let next = texts().filter(|it| *it != widest).map(|it| limits[it]).max().unwrap_or(0);
        let wanted = limits[widest].saturating_sub(total(&limits) - width);
        limits[widest] = wanted.max(next.min(limits[widest] - 1)).max(MIN_TEXT_WIDTH);
    }
    let last = limits.len().saturating_sub(1);
    for line in cells {
        for (number, cell) in line.iter_mut().enumerate() {
            if cell.width() > limits[number] {
                *cell = if wraps && number == last { wrapped(cell, limits[number]) } else { cut(cell, limits[number]) };
            }
        }
    }
}

/// Returns the beginning of a text with `…`, at most `width` columns wide.
fn cut(text: &str, width: usize) -> String {
    let mut shown = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(c);
    }
    shown.truncate(shown.trim_end().len());
    shown + "…"
}

/// Returns a text in lines of at most `width` columns, broken at blanks; a longer word is not broken.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Returns a duration in its two largest units: `0.4s`, `3m 12s`, `2d 7h`.
#[must_use]
pub(crate) fn human_duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}s").replace(".0s", "s");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small}{smaller}") }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => two(minutes, "m", seconds % 60, "s"),
        (0, ..) => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Listing {
        let mut listing = Listing::new("topics", &[Column::Text("topic"), Column::Number("end_offset"), Column::Number("size")]);
        listing.push(["logins".into(), 1042.into(), Cell::Display("1.2 MB".to_owned(), json!(1_234_567))]);
        listing.push(["a\x1b[2J, \"b\"\u{9b}".into(), None::<i64>.into(), Cell::Empty]);
        listing
    }

    #[test]
    fn a_table_has_aligned_columns_and_escapes_control_characters() {
        assert_eq!(
            topics().render(ListingFormat::Table),
            "TOPIC                END OFFSET    SIZE\n\
             logins                     1042  1.2 MB\n\
             a\\x1b[2J, \"b\"\\u{9b}           -       -\n"
        );
        assert_eq!(Listing::new("none", &[Column::Text("topic")]).render(ListingFormat::Table), "TOPIC\n");
    }

    #[test]
    fn a_table_may_omit_columns_of_the_machine_formats() {
        let mut listing =
            Listing::new("waits", &[Column::Text("topic"), Column::Duration("time_lag_seconds"), Column::Text("notes")]);
        listing.push([
            "a".into(),
            Cell::Display("3m 12s".to_owned(), json!(192)),
            Cell::Display(String::new(), json!(["x", "y"])),
        ]);
        listing.hide_in_table(|name, is_empty| name == "notes" && is_empty);
        assert_eq!(listing.render(ListingFormat::Table), "TOPIC  TIME LAG\na        3m 12s\n");
        assert_eq!(listing.render(ListingFormat::Csv), "topic,time_lag_seconds,notes\r\na,192,x y\r\n");
    }

    #[test]
    fn a_table_is_sorted_and_loses_columns_until_it_fits() {
        let mut listing = topics();
        listing.push(["large".into(), 9_000.into(), 5.into()]);
        listing.sort_by_largest("end_offset");
        let mut narrow = listing.clone();
        narrow.fit(27, &["size", "end_offset"]);
        let first = |listing: &Listing| listing.render(ListingFormat::Table).lines().nth(1).unwrap().to_owned();
        assert_eq!(first(&narrow), "large", "{}", narrow.render(ListingFormat::Table));
        listing.fit(80, &["size"]);
        assert!(first(&listing).ends_with("9000       5"), "{}", listing.render(ListingFormat::Table));
        assert!(listing.render(ListingFormat::Csv).contains("large,9000,5\r\n"));
    }

    fn causes() -> Listing {
        let mut listing = Listing::new("causes", &[Column::Number("count"), Column::Text("cause"), Column::Text("first")]);
        listing.push([8113.into(), "`device_type` is missing, as far as anybody can see".into(), "2026-03-01T08:59:58Z".into()]);
        listing.push([1.into(), "short".into(), "2026-03-01T08:59:58Z".into()]);
        listing
    }

    #[test]
    fn a_table_fits_the_terminal_by_cutting_its_widest_texts() {
        let mut listing = causes();
        listing.fit_terminal(60, &[]);
        assert_eq!(
            listing.render(ListingFormat::Table),
            "COUNT  CAUSE                            FIRST\n\
             \x208113  `device_type` is missing, as f…  2026-03-01T08:59:58Z\n\
             \x20   1  short                            2026-03-01T08:59:58Z\n"
        );
        for width in [50, 60, 70, 80, 200] {
            let mut listing = causes();
            listing.fit_terminal(width, &["first"]);
            let table = listing.render(ListingFormat::Table);
            assert!(table.lines().all(|line| line.width() <= width), "{width}:\n{table}");
            assert_eq!(table.contains("FIRST"), width >= 53, "{width}:\n{table}");
            assert!(listing.render(ListingFormat::Csv).contains("as far as anybody can see"), "programs get all");
        }
    }

    #[test]
    fn a_table_may_wrap_its_last_column() {
        let mut listing = Listing::new("steps", &[Column::Text("step"), Column::Text("finding")]);
        listing.push(["tcp".into(), "a:1: connecting: connection refused: start the broker".into()]);
        listing.wrap_last();
        listing.fit_terminal(30, &[]);
        assert_eq!(
            listing.render(ListingFormat::Table),
            "STEP  FINDING\n\
             tcp   a:1: connecting:\n\
             \x20     connection refused:\n\
             \x20     start the broker\n"
        );
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.04, "0s"),
            (0.44, "0.4s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.4, "59s"),
            (59.6, "1m"),
            (192.0, "3m 12s"),
            (7_199.0, "1h 59m"),
            (90_000.0, "1d 1h"),
            (31_536_000.0, "365d"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn json_and_csv_hold_unrounded_values() {
        let json: Value = serde_json::from_str(&topics().render(ListingFormat::Json)).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["topics"][0], json!({"topic": "logins", "end_offset": 1042, "size": 1_234_567}));
        assert_eq!(json["topics"][1], json!({"topic": "a\u{1b}[2J, \"b\"\u{9b}", "end_offset": null, "size": null}));
        let lines = topics().render(ListingFormat::Ndjson);
        assert_eq!(lines.lines().next(), Some(r#"{"end_offset":1042,"schema":1,"size":1234567,"topic":"logins"}"#));
        assert!(!lines.contains('\u{9b}'));
        assert_eq!(
            topics().render(ListingFormat::Csv),
            "topic,end_offset,size\r\nlogins,1042,1234567\r\n\"a\\x1b[2J, \"\"b\"\"\\u{9b}\",,\r\n"
        );
    }
}
