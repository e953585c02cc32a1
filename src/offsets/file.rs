//! Files of committed offsets: CSV and NDJSON.

use std::collections::HashMap;

use serde::Deserialize;

use crate::record::{Partition, Topic};

/// A committed offset of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupOffset {
    pub(crate) group: String,
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    /// The log end offset, if it is known. A file that is read needs none.
    pub(crate) end: Option<i64>,
    pub(crate) metadata: String,
}

impl GroupOffset {
    /// Returns the distance to the log end; `None` if that is not known, or lower.
    pub(crate) fn lag(&self) -> Option<i64> {
        Some(self.end? - self.offset).filter(|lag| *lag >= 0)
    }
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct FileError {
    line: usize,
    what: String,
}

const COLUMNS: [&str; 7] = ["group", "topic", "partition", "offset", "end", "lag", "metadata"];

/// Returns the offsets as CSV (RFC 4180) with a header line, byte for byte: for a file, not for a terminal.
pub(crate) fn write_csv(offsets: &[GroupOffset]) -> String {
    let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    let mut text = COLUMNS.join(",") + "\r\n";
    for offset in offsets {
        let row = [
            quoted(&offset.group),
            offset.partition.topic.name().to_owned(),
            offset.partition.index.to_string(),
            offset.offset.to_string(),
            number(offset.end),
            number(offset.lag()),
            quoted(&offset.metadata),
        ];
        text.push_str(&row.join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// Returns the offsets of a file: NDJSON if it begins with `{`, else CSV with a header line, whose columns may have any order. Only
/// group, topic, partition, offset and, if it is there, metadata are read.
///
/// # Errors
/// When a line is not valid, or an offset is given twice.
pub(crate) fn parse_file(text: &str) -> Result<Vec<GroupOffset>, FileError> {
    // Spreadsheets write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let offsets = if text.trim_start().starts_with('{') { parse_ndjson(text)? } else { parse_csv(text)? };
    let mut seen: HashMap<(&str, Partition), usize> = HashMap::with_capacity(offsets.len());
    for (line, offset) in &offsets {
        if let Some(first) = seen.insert((&offset.group, offset.partition), *line) {
            let what = format!("{} of group `{}` is given twice: first in line {first}", offset.partition, offset.group);
            return Err(FileError { line: *line, what });
        }
    }
    Ok(offsets.into_iter().map(|(_, offset)| offset).collect())
}

/// A line of NDJSON.
#[derive(Deserialize)]
struct OffsetLine {
    group: String,
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default)]
    metadata: Option<String>,
}

fn parse_ndjson(text: &str) -> Result<Vec<(usize, GroupOffset)>, FileError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let parse = |(line, text): (usize, &str)| {
        let parsed: OffsetLine = serde_json::from_str(text).map_err(|error| {
            let text = error.to_string();
            FileError { line, what: text.split(" at line ").next().unwrap_or_default().to_owned() }
        })?;
        let OffsetLine { group, topic, partition, offset, metadata } = parsed;
        checked(line, group, &topic, partition, offset, metadata.unwrap_or_default())
    };
    lines.map(parse).collect()
}

fn parse_csv(text: &str) -> Result<Vec<(usize, GroupOffset)>, FileError> {
    let mut records = csv_records(text)?.into_iter();
    let (line, header) = records.next().ok_or_else(|| FileError { line: 1, what: "the header line is missing".to_owned() })?;
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let required = |name: &str| {
        let what = || format!("the header has no column `{name}`: group, topic, partition and offset are needed");
        column(name).ok_or_else(|| FileError { line, what: what() })
    };
    let (group, topic, partition, offset) = (required("group")?, required("topic")?, required("partition")?, required("offset")?);
    let metadata = column("metadata");
    let parse = |(line, fields): (usize, Vec<String>)| {
        if fields.len() != header.len() {
            let what = format!("{} fields under a header of {}", fields.len(), header.len());
            return Err(FileError { line, what });
        }
        let invalid = |name: &str, field: usize| FileError { line, what: format!("{name} `{}` is not a number", fields[field]) };
        let index = fields[partition].trim().parse().map_err(|_| invalid("partition", partition))?;
        let next = fields[offset].trim().parse().map_err(|_| invalid("offset", offset))?;
        let metadata = metadata.map_or_else(String::new, |column| fields[column].clone());
        checked(line, fields[group].clone(), fields[topic].trim(), index, next, metadata)
    };
    records.map(parse).collect()
}

fn checked(
    line: usize,
    group: String,
    topic: &str,
    index: i32,
    offset: i64,
    metadata: String,
) -> Result<(usize, GroupOffset), FileError> {
    let wrong = |what: String| Err(FileError { line, what });
    if group.is_empty() {
        return wrong("the group has no name".to_owned());
    }
    if !Topic::is_valid_name(topic) {
        return wrong(format!("`{topic}` is not a valid topic name"));
    }
    if index < 0 || offset < 0 {
        return wrong(format!("partition {index} and offset {offset}: neither may be negative"));
    }
    Ok((line, GroupOffset { group, partition: Partition::new(topic, index), offset, end: None, metadata }))
}

/// Returns the records of CSV, each with its first line; blank lines are left out.
fn csv_records(text: &str) -> Result<Vec<(usize, Vec<String>)>, FileError> {
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut first, mut is_quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    loop {
        match chars.next() {
            Some('"') if field.is_empty() && !is_quoted => {
                is_quoted = true;
                loop {
                    match chars.next() {
                        None => return Err(FileError { line: first, what: "a quote is not closed".to_owned() }),
                        Some('"') if chars.next_if_eq(&'"').is_none() => break,
                        Some(c) => {
                            line += usize::from(c == '\n');
                            field.push(c);
                        }
                    }
                }
            }
            Some(',') => {
                fields.push(std::mem::take(&mut field));
                is_quoted = false;
            }
            Some('\r') if chars.peek() == Some(&'\n') => {}
            end @ (Some('\n') | None) => {
                if !fields.is_empty() || !field.is_empty() || is_quoted {
                    fields.push(std::mem::take(&mut field));
                    records.push((first, std::mem::take(&mut fields)));
                }
                if end.is_none() {
                    return Ok(records);
                }
                line += 1;
                (first, is_quoted) = (line, false);
            }
            Some(_) if is_quoted => return Err(FileError { line, what: "text follows a closing quote".to_owned() }),
            Some(c) => field.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset(group: &str, index: i32, offset: i64, metadata: &str) -> GroupOffset {
        let partition = Partition::new("file-topic", index);
        GroupOffset { group: group.to_owned(), partition, offset, end: None, metadata: metadata.to_owned() }
    }

    fn error(text: &str) -> String {
        parse_file(text).unwrap_err().to_string()
    }

    #[test]
    fn offsets_are_written_with_their_lag() {
        let rows = [
            GroupOffset { end: Some(100), ..offset("a", 0, 40, "{\"sdl\":1}") },
            GroupOffset { end: Some(10), ..offset("b,c", 1, 40, "") },
            offset("d", 2, 0, "x\ny"),
        ];
        assert_eq!(
            write_csv(&rows),
            "group,topic,partition,offset,end,lag,metadata\r\n\
             a,file-topic,0,40,100,60,\"{\"\"sdl\"\":1}\"\r\n\
             \"b,c\",file-topic,1,40,10,,\r\n\
             d,file-topic,2,0,,,\"x\ny\"\r\n"
        );
    }

    #[test]
    fn columns_may_have_any_order_and_others_are_ignored() {
        let expected = vec![offset("a", 0, 40, ""), offset("a", 1, 41, "m")];
        let csv = "\u{feff}offset,note,group,topic,partition,metadata\n40,x,a,file-topic,0,\n\n41,\"y,\"\"z\",a,file-topic, 1 ,m";
        assert_eq!(parse_file(csv), Ok(expected.clone()));
        let ndjson = "{\"group\":\"a\",\"topic\":\"file-topic\",\"partition\":0,\"offset\":40,\"lag\":null,\"metadata\":null}\n\n\
                      {\"group\":\"a\",\"topic\":\"file-topic\",\"partition\":1,\"offset\":41,\"metadata\":\"m\",\"schema\":1}\n";
        assert_eq!(parse_file(ndjson), Ok(expected));
        assert_eq!(parse_file("group,topic,partition,offset\r\n"), Ok(Vec::new()));
    }

    #[test]
    fn an_invalid_line_is_named_with_its_number() {
        let csv = |lines: &str| error(&format!("group,topic,partition,offset\n{lines}"));
        for (error, expected) in [
            (error(""), "line 1: the header line is missing"),
            (error("orders,0,5\n"), "line 1: the header has no column `group`: group, topic, partition and offset are needed"),
            (csv("g,t,0\n"), "line 2: 3 fields under a header of 4"),
            (csv("g,t,0,1\ng,t,x,1\n"), "line 3: partition `x` is not a number"),
            (csv("g,t,0,\n"), "line 2: offset `` is not a number"),
            (csv("g,t,0,-1\n"), "line 2: partition 0 and offset -1: neither may be negative"),
            (csv("g,a b,0,1\n"), "line 2: `a b` is not a valid topic name"),
            (csv(",t,0,1\n"), "line 2: the group has no name"),
            (csv("\"g\nh\",t,0,1\n\"g\"x,t,0,1\n"), "line 4: text follows a closing quote"),
            (csv("\"g,t,0,1\n"), "line 2: a quote is not closed"),
            (csv("g,t,0,1\nh,t,0,1\ng,t,0,2\n"), "line 4: t/0 of group `g` is given twice: first in line 2"),
            (error("{\"group\":\"g\"}\n"), "line 1: missing field `topic`"),
            (error("{\"schema\": 1,\n"), "line 1: EOF while parsing a value"),
        ] {
            assert_eq!(error, expected);
        }
    }

    proptest! {
        #[test]
        fn csv_round_trips(rows in prop::collection::vec(("\\PC{1,8}|[\",\r\n a-c]{1,8}", 0..9_i64, "\\PC{0,8}|[\",\r\n ]{0,8}"), 0..8)) {
            let rows: Vec<GroupOffset> =
                (0..).zip(&rows).map(|(index, (group, at, metadata))| offset(group, index, *at, metadata)).collect();
            prop_assert_eq!(parse_file(&write_csv(&rows)), Ok(rows));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}", lines in "[{}\",:a-g0-9\r\n]{0,80}") {
            let header = format!("group,topic,partition,offset,metadata\n{lines}");
            for text in [text, lines, header] {
                if let Ok(rows) = parse_file(&text) {
                    prop_assert_eq!(parse_file(&write_csv(&rows)), Ok(rows));
                }
            }
        }
    }
}
