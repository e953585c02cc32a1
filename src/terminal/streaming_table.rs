//! A table that is written while its rows arrive.

use unicode_width::UnicodeWidthStr as _;

use crate::terminal::escape::escape_controls;

/// The most rows that are buffered to measure the columns.
const SAMPLE_ROWS: usize = 200;

/// A table that is written while its rows arrive. The first rows determine the widths; a wider cell widens its column from then on.
#[derive(Clone, Debug)]
pub(crate) struct StreamingTable {
    head: Vec<String>,
    right_aligned: Vec<bool>,
    widths: Vec<usize>,
    buffered: Vec<Vec<String>>,
    header_written: bool,
}

impl StreamingTable {
    /// Returns a table with these columns: names, and whether they are right-aligned.
    #[must_use]
    pub(crate) fn new(columns: impl IntoIterator<Item = (String, bool)>) -> Self {
        let (head, right): (Vec<_>, Vec<_>) =
            columns.into_iter().map(|(name, right)| (escape_controls(&name).replace('_', " ").to_uppercase(), right)).unzip();
        let widths = vec![0; head.len()];
        Self { head, right_aligned: right, widths, buffered: Vec::new(), header_written: false }
    }

    /// Adds a row, one cell per column; control characters are escaped.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = Option<String>>, out: &mut Vec<u8>) {
        let shown = |cell: Option<String>| cell.map_or_else(|| "-".to_owned(), |cell| escape_controls(&cell).into_owned());
        let row: Vec<String> = row.into_iter().map(shown).collect();
        if self.header_written {
            return self.line(&row, out);
        }
        self.buffered.push(row);
        if self.buffered.len() >= SAMPLE_ROWS {
            self.flush(out);
        }
    }

    /// Writes the buffered rows.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.header_written || self.buffered.is_empty() {
            return;
        }
        self.header_written = true;
        let rows = std::mem::take(&mut self.buffered);
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
        for ((cell, width), right) in row.iter().zip(&self.widths).zip(&self.right_aligned) {
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
        let mut rows = StreamingTable::new([("name".to_owned(), false), ("n".to_owned(), true), ("user_id".to_owned(), false)]);
        let mut out = Vec::new();
        rows.flush(&mut out);
        rows.push(cells(["漢字", "7", "x"]), &mut out);
        rows.push(cells(["a\x1b[2J", "1000", "-"]), &mut out);
        assert!(out.is_empty(), "the first rows wait");
        rows.flush(&mut out);
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
