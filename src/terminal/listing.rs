//! Rows, in whatever form they are asked for.

use serde_json::{Map, Value, json};
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use crate::terminal::{escape_controls, escape_controls_json};

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One document.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Commas and quotes, with a line of names.
    Csv,
}

/// A column: its name in JSON and CSV, and above the table in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Of text, which stands left.
    Text(&'static str),
    /// Of numbers, which stand right.
    Number(&'static str),
    /// Of times, which stand right and tell people their unit: the name ends in `_seconds`, and the heading does without.
    Span(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) | Self::Span(name) => name,
        }
    }

    fn heading(self) -> String {
        let name = match self {
            Self::Span(name) => name.trim_end_matches("_seconds"),
            Self::Text(name) | Self::Number(name) => name,
        };
        name.replace('_', " ").to_uppercase()
    }
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// What is not known or does not apply: `-` in a table, null in JSON, nothing in CSV.
    Nothing,
    /// Something that people read otherwise than programs: `1.2 MB`, and 1234567.
    Both(String, Value),
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
        value.map_or(Self::Nothing, Into::into)
    }
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Both(text, _) => escape_controls(text).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nothing => "-".to_owned(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Nothing => Value::Null,
            Self::Both(_, value) => value.clone(),
        }
    }

    fn csv(&self) -> String {
        let plain = match self.value() {
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
pub struct Listing {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Which columns a table does without.
    left_out: Vec<bool>,
    continues: bool,
}

impl Listing {
    /// Returns an empty list of `name`, which is what the rows are called in a JSON document.
    #[must_use]
    pub fn new(name: &'static str, columns: &[Column]) -> Self {
        Self { name, columns: columns.to_vec(), rows: Vec::new(), left_out: vec![false; columns.len()], continues: false }
    }

    /// Adds a row: a cell for every column.
    pub fn push(&mut self, row: impl Into<Vec<Cell>>) {
        let row = row.into();
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(row);
    }

    /// Returns whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Says whether the rows follow others that were written before: CSV then has no line of names.
    pub fn continues(&mut self, continues: bool) {
        self.continues = continues;
    }

    /// Leaves columns out of a table, which has to fit a screen: those that `wanted_out(name, holds_nothing)` names.
    pub fn leave_out_of_table(&mut self, wanted_out: impl Fn(&str, bool) -> bool) {
        for (number, column) in self.columns.iter().enumerate() {
            let holds_nothing = self.rows.iter().all(|row| matches!(row[number].shown().as_str(), "-" | ""));
            self.left_out[number] = wanted_out(column.name(), holds_nothing);
        }
    }

    /// Returns the rows as they are printed, the last line feed included. JSON carries `"schema": 1`.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Csv => {
                let names = self.columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>();
                let rows = self.rows.iter().map(|row| row.iter().map(Cell::csv).collect());
                std::iter::once(names).filter(|_| !self.continues).chain(rows).map(|row| row.join(",") + "\r\n").collect()
            }
            Format::Json => {
                let rows: Vec<_> = self.rows.iter().map(|row| Value::Object(self.object(row))).collect();
                let document = json!({ "schema": 1, self.name: rows });
                escape_controls_json(&format!("{document:#}\n")).into_owned()
            }
            Format::Ndjson => {
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
        self.columns.iter().zip(row).map(|(column, cell)| (column.name().to_owned(), cell.value())).collect()
    }

    fn table(&self) -> String {
        let columns: Vec<_> =
            self.columns.iter().zip(&self.left_out).filter(|(_, out)| !**out).map(|(column, _)| column).collect();
        let mut builder = Builder::with_capacity(self.rows.len() + 1, columns.len());
        builder.push_record(columns.iter().map(|column| column.heading()));
        for row in &self.rows {
            builder.push_record(row.iter().zip(&self.left_out).filter(|(_, out)| !**out).map(|(cell, _)| cell.shown()));
        }
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
        for (number, column) in columns.iter().enumerate() {
            if matches!(column, Column::Number(_) | Column::Span(_)) {
                table.modify(Columns::one(number), Alignment::right());
            }
        }
        table.to_string().lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }
}

/// Returns a time in seconds as people say it, in its two largest units: `0.4s`, `3m 12s`, `2d 7h`.
#[must_use]
pub fn span(seconds: f64) -> String {
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
        listing.push(["logins".into(), 1042.into(), Cell::Both("1.2 MB".to_owned(), json!(1_234_567))]);
        listing.push(["a\x1b[2J, \"b\"\u{9b}".into(), None::<i64>.into(), Cell::Nothing]);
        listing
    }

    #[test]
    fn people_get_a_table() {
        assert_eq!(
            topics().render(Format::Table),
            "TOPIC                END OFFSET    SIZE\n\
             logins                     1042  1.2 MB\n\
             a\\x1b[2J, \"b\"\\u{9b}           -       -\n"
        );
        assert_eq!(Listing::new("none", &[Column::Text("topic")]).render(Format::Table), "TOPIC\n");
    }

    #[test]
    fn a_table_may_do_without_columns_that_programs_get() {
        let mut listing =
            Listing::new("waits", &[Column::Text("topic"), Column::Span("time_lag_seconds"), Column::Text("notes")]);
        listing.push(["a".into(), Cell::Both("3m 12s".to_owned(), json!(192)), Cell::Both(String::new(), json!(["x", "y"]))]);
        listing.leave_out_of_table(|name, holds_nothing| name == "notes" && holds_nothing);
        assert_eq!(listing.render(Format::Table), "TOPIC  TIME LAG\na        3m 12s\n");
        assert_eq!(listing.render(Format::Csv), "topic,time_lag_seconds,notes\r\na,192,x y\r\n");
    }

    #[test]
    fn times_are_told_in_two_units() {
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
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn programs_get_json_or_csv() {
        let json: Value = serde_json::from_str(&topics().render(Format::Json)).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["topics"][0], json!({"topic": "logins", "end_offset": 1042, "size": 1_234_567}));
        assert_eq!(json["topics"][1], json!({"topic": "a\u{1b}[2J, \"b\"\u{9b}", "end_offset": null, "size": null}));
        let lines = topics().render(Format::Ndjson);
        assert_eq!(lines.lines().next(), Some(r#"{"end_offset":1042,"schema":1,"size":1234567,"topic":"logins"}"#));
        assert!(!lines.contains('\u{9b}'));
        assert_eq!(
            topics().render(Format::Csv),
            "topic,end_offset,size\r\nlogins,1042,1234567\r\n\"a\\x1b[2J, \"\"b\"\"\\u{9b}\",,\r\n"
        );
    }
}
