//! A table whose rows come one by one, for as long as anyone looks.

use unicode_width::UnicodeWidthStr as _;

use crate::terminal::escape_controls;

/// How many rows are waited for, at most, to find out how wide the columns are.
const WAITING: usize = 200;

/// A table that is written while it grows. The columns are as wide as the first rows need, and wider from the first row on that
/// needs more.
#[derive(Clone, Debug)]
pub struct Rows {
    head: Vec<String>,
    /// Whether a column is of numbers, which stand right.
    right: Vec<bool>,
    widths: Vec<usize>,
    waiting: Vec<Vec<String>>,
    begun: bool,
}

impl Rows {
    /// Returns a table with these columns: a name, and whether it is of numbers.
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item = (String, bool)>) -> Self {
        let (head, right): (Vec<_>, Vec<_>) =
            columns.into_iter().map(|(name, right)| (escape_controls(&name).replace('_', " ").to_uppercase(), right)).unzip();
        let widths = vec![0; head.len()];
        Self { head, right, widths, waiting: Vec::new(), begun: false }
    }

    /// Takes a row, a cell for every column; what others wrote is made harmless.
    pub fn push(&mut self, row: impl IntoIterator<Item = Option<String>>, out: &mut Vec<u8>) {
        let shown = |cell: Option<String>| cell.map_or_else(|| "-".to_owned(), |cell| escape_controls(&cell).into_owned());
        let row: Vec<String> = row.into_iter().map(shown).collect();
        if self.begun {
            return self.line(&row, out);
        }
        self.waiting.push(row);
        if self.waiting.len() >= WAITING {
            self.settle(out);
        }
    }

    /// Writes the rows that wait: nothing more comes for now.
    pub fn settle(&mut self, out: &mut Vec<u8>) {
        if self.begun || self.waiting.is_empty() {
            return;
        }
        self.begun = true;
        let rows = std::mem::take(&mut self.waiting);
        let head = self.head.clone();
        for row in rows.iter().chain([&head]) {
            self.widen(row);
        }
        for row in [&head].into_iter().chain(&rows) {
            self.line(row, out);
        }
    }

    fn widen(&mut self, row: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }

    fn line(&mut self, row: &[String], out: &mut Vec<u8>) {
        self.widen(row);
        let start = out.len();
        for ((cell, width), right) in row.iter().zip(&self.widths).zip(&self.right) {
            let blanks = std::iter::repeat_n(b' ', width - cell.width());
            if *right {
                out.extend(blanks);
                out.extend_from_slice(cell.as_bytes());
            } else {
                out.extend_from_slice(cell.as_bytes());
                out.extend(blanks);
            }
            out.extend_from_slice(b"  ");
        }
        let line = start + out[start..].trim_ascii_end().len();
        out.truncate(line);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<const N: usize>(row: [&str; N]) -> impl Iterator<Item = Option<String>> {
        row.map(|cell| (cell != "-").then(|| cell.to_owned())).into_iter()
    }

    #[test]
    fn columns_are_as_wide_as_the_first_rows_need_and_grow_when_they_must() {
        let mut rows = Rows::new([("name".to_owned(), false), ("n".to_owned(), true), ("user_id".to_owned(), false)]);
        let mut out = Vec::new();
        rows.settle(&mut out);
        rows.push(cells(["漢字", "7", "x"]), &mut out);
        rows.push(cells(["a\x1b[2J", "1000", "-"]), &mut out);
        assert!(out.is_empty(), "the first rows wait");
        rows.settle(&mut out);
        rows.push(cells(["b", "1", "y"]), &mut out);
        rows.push(cells(["something long", "1", "y"]), &mut out);
        rows.push(cells(["c", "1", "y"]), &mut out);
        let expected = "\
NAME         N  USER ID
漢字         7  x
a\\x1b[2J  1000  -
b            1  y
something long     1  y
c                  1  y
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
