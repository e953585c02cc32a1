//! The flags that shape values.

use crate::error::Error;
use crate::pipeline::{LOSS_TARGET, Transform, TransformResult};
use crate::profile::{MaskKey, Origin, Profile, RunValue, UNUSED};
use crate::shape::{
    FieldPath, InvalidRule, MIN_RECORDS, RuleKind, SAMPLE_RECORDS, SelectedFields, Shape, ShapeResult, ShapeRules,
};

/// Flags that shape JSON values; without any of them no value is parsed or changed.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Shaping (JSON values; a path like buyer.id goes deeper)")]
pub(crate) struct ShapingArgs {
    /// Keep only records where this holds: FIELD, FIELD = VALUE (or ==, !=, <, <=, >, >=, ~ for a regex), FIELD in (A, B),
    /// joined by `and`; all must hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Fill a field that is missing or null; a value that is JSON (0, true, "2") is taken as that, else as text
    #[arg(long, value_name = "FIELD=VALUE")]
    default: Vec<String>,
    /// Treat a record as bad if a field is missing or has another type: string, int, number, bool, object, array
    #[arg(long, value_name = "FIELD[:TYPE],...")]
    require: Vec<String>,
    /// Turn Unix times (seconds to nanoseconds) and ISO text into ISO 8601 in UTC; in MongoDB, into a Date
    #[arg(long, value_name = "FIELD,...")]
    date: Vec<String>,
    /// Replace an address by its network: a.b.c.xxx
    #[arg(long, value_name = "FIELD,...")]
    mask_ip: Vec<String>,
    /// Replace a value by its HMAC-SHA-256 under the profile's `mask_key`
    #[arg(long, value_name = "FIELD,...")]
    mask: Vec<String>,
    /// Leave only these fields
    #[arg(long, value_name = "FIELD,...")]
    keep: Vec<String>,
    /// Leave these fields out
    #[arg(long, value_name = "FIELD,...")]
    drop: Vec<String>,
    /// Shape by `[shape.NAME]` of the profile, in addition to these flags
    #[arg(long, value_name = "NAME")]
    shape: Vec<String>,
}

impl ShapingArgs {
    /// Returns the shape of the flags and the profile, if any.
    ///
    /// # Errors
    /// When a rule cannot be followed, a shape is not in the profile, or something is to be masked without `mask_key`, or with one whose
    /// reference cannot be expanded.
    pub(crate) fn build(&self, profile: &Profile, mask_key: Option<&MaskKey>) -> Result<Option<Shape>, Error> {
        let rules = self.rules(profile)?;
        if rules.is_empty() {
            return Ok(None);
        }
        let mask_key = match mask_key {
            Some(Ok(key)) => Some(key.reveal()),
            Some(Err(error)) if rules.masks() => return Err(error.clone().into()),
            Some(Err(_)) | None => None,
        };
        Shape::parse(&rules, mask_key).map(Some).map_err(usage)
    }

    /// Returns the fields that are kept, for columns, or `None` when all are.
    ///
    /// # Errors
    /// When a rule cannot be followed, or a shape is not in the profile.
    pub(crate) fn fields(&self, profile: &Profile) -> Result<Option<SelectedFields>, Error> {
        SelectedFields::parse(&self.rules(profile)?).map_err(usage)
    }

    /// Returns the fields of `--date` and of the shapes.
    ///
    /// # Errors
    /// As [`Self::fields`].
    pub(crate) fn dates(&self, profile: &Profile) -> Result<Vec<FieldPath>, Error> {
        self.rules(profile)?.paths(RuleKind::Date).map_err(usage)
    }

    fn rules(&self, profile: &Profile) -> Result<ShapeRules, Error> {
        let mut rules = ShapeRules::default();
        let flags = [
            (RuleKind::Where, "where", &self.conditions),
            (RuleKind::Default, "default", &self.default),
            (RuleKind::Require, "require", &self.require),
            (RuleKind::Date, "date", &self.date),
            (RuleKind::MaskIp, "mask-ip", &self.mask_ip),
            (RuleKind::Mask, "mask", &self.mask),
            (RuleKind::Keep, "keep", &self.keep),
            (RuleKind::Drop, "drop", &self.drop),
        ];
        for (kind, flag, texts) in flags {
            for text in texts {
                rules.add(kind, text, &format!("`--{flag} {text}`"));
            }
        }
        for name in &self.shape {
            let keys = profile.shape(name)?.ok_or_else(|| no_shape(name, profile))?;
            for (key, value) in &keys {
                let origin = profile.shape_origin(name, key).unwrap_or(&Origin::Default);
                rules.key(&place(name, origin), key, value).map_err(usage)?;
            }
        }
        Ok(rules)
    }
}

/// Returns a warning for each unknown key of the shapes of the profile that `is_used` does not say the command uses.
pub(crate) fn fault_warnings(profile: &Profile, is_used: impl Fn(&str) -> bool) -> Vec<String> {
    let unused = profile.shape_names().filter(|name| !is_used(name));
    let warnings = unused.flat_map(|name| {
        let values = profile.written_values(&format!("shape.{name}")).into_iter();
        let fault = |value: &RunValue| ShapeRules::default().key(&place(name, &value.origin), &value.key, &value.value).err();
        values.filter_map(|value| Some(format!("{}; {UNUSED}", fault(&value)?.what))).collect::<Vec<_>>()
    });
    warnings.collect()
}

/// Returns the section of a shape and the place of one of its keys.
fn place(name: &str, origin: &Origin) -> String {
    format!("[shape.{name}] at {origin}")
}

/// Returns the transform that applies `shape`.
pub(crate) fn transform(shape: Shape) -> Transform {
    applied(ReportingShape { shape, commits: true })
}

/// Returns the transform of a dry run, which commits nothing.
pub(crate) fn dry_transform(shape: Shape) -> Transform {
    applied(ReportingShape { shape, commits: false })
}

fn applied(shape: ReportingShape) -> Transform {
    Box::new(move |record| match shape.apply(record.value.as_deref()) {
        ShapeResult::Keep(None) => TransformResult::Keep,
        ShapeResult::Keep(changed) => {
            record.value = changed;
            TransformResult::Keep
        }
        ShapeResult::Filtered => TransformResult::Filtered,
        ShapeResult::Bad(fault) => TransformResult::Bad(fault.into()),
    })
}

/// What follows for records that a condition leaves out.
const COMMITTED: &str = " What is left out is committed, and the next run does not read it: once the condition is corrected, \
                         --start beginning, or --start with the offset where this run began, reads it again";

/// A shape that warns of rules that match no record: once, after many records or at the end of a shorter run.
#[derive(Debug)]
pub(crate) struct ReportingShape {
    pub(crate) shape: Shape,
    /// Whether the offsets of records that are left out are committed: the next run does not read them.
    pub(crate) commits: bool,
}

impl ReportingShape {
    pub(crate) fn apply(&self, value: Option<&[u8]>) -> ShapeResult {
        let result = self.shape.apply(value);
        if self.shape.records() == SAMPLE_RECORDS {
            self.warn();
        }
        result
    }

    fn warn(&self) {
        for warning in self.warnings() {
            tracing::warn!(target: LOSS_TARGET, "{warning}");
        }
    }

    fn warnings(&self) -> impl Iterator<Item = String> {
        self.shape.unmatched().map(|rule| {
            let text = rule.to_string();
            let dot = if text.ends_with('?') { "" } else { "." };
            if self.commits && rule.is_condition() { format!("{text}{dot}{COMMITTED}") } else { text }
        })
    }
}

impl Drop for ReportingShape {
    fn drop(&mut self) {
        if (MIN_RECORDS..SAMPLE_RECORDS).contains(&self.shape.records()) {
            self.warn();
        }
    }
}

fn usage(InvalidRule { what, hint }: InvalidRule) -> Error {
    Error::Usage { what, hint }
}

fn no_shape(name: &str, profile: &Profile) -> Error {
    let known: Vec<_> = profile.shape_names().map(|name| format!("--shape {name}")).collect();
    let hint = match known.as_slice() {
        [] => format!("add a section [shape.{name}] to the profile"),
        known => format!("the profile has {}", known.join(", ")),
    };
    Error::Usage { what: format!("there is no shape `{name}` in the profile"), hint }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clap::Parser as _;

    use super::*;
    use crate::pipeline::Reason;
    use crate::profile::Secret;
    use crate::record::{Partition, Record};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        shaping: ShapingArgs,
    }

    fn shaping(line: &[&str]) -> ShapingArgs {
        Line::try_parse_from([&["sdl"], line].concat()).unwrap().shaping
    }

    fn record(value: &'static str) -> Record {
        let value = Some(Bytes::from_static(value.as_bytes()));
        Record { partition: Partition::new("t", 0), offset: 0, timestamp: None, key: None, value, headers: Vec::new() }
    }

    #[test]
    fn no_flags_build_no_shape() {
        assert!(shaping(&[]).build(&Profile::default(), None).unwrap().is_none());
    }

    #[test]
    fn shaping_flags_build_the_transform() {
        let flags = ["--where", "a > 1", "--require", "b:int", "--drop", "c", "--where", "a < 9"];
        let transform = transform(shaping(&flags).build(&Profile::default(), None).unwrap().unwrap());
        let mut shaped = record(r#"{"a": 5, "b": 1, "c": 1}"#);
        assert_eq!(transform(&mut shaped), TransformResult::Keep);
        assert_eq!(shaped, record(r#"{"a":5,"b":1}"#));
        assert_eq!(transform(&mut record(r#"{"a": 9}"#)), TransformResult::Filtered);
        let missing = Reason::new("missing_field", "`b` is missing").at("b");
        assert_eq!(transform(&mut record(r#"{"a": 5}"#)), TransformResult::Bad(missing));
    }

    #[test]
    fn a_condition_that_leaves_out_every_record_of_a_run_that_commits_says_how_to_read_them_again() {
        let warnings = |flags: &[&str], commits| {
            let shape = shaping(flags).build(&Profile::default(), None).unwrap().unwrap();
            let shape = ReportingShape { shape, commits };
            for _ in 0..2 {
                let _ = shape.apply(Some(br#"{"device_type": "iOS"}"#));
            }
            shape.warnings().collect::<Vec<_>>()
        };
        let mistyped = ["--where", "device_typ = iOS"];
        let none = "none of 2 records has the field `device_typ` of `--where device_typ = iOS`: they have `device_type`; did you mean `device_type`?";
        assert_eq!(warnings(&mistyped, true), [format!("{none}{COMMITTED}")]);
        assert_eq!(warnings(&mistyped, false), [none]);
        let delivered = warnings(&["--drop", "device_typ"], true);
        assert!(delivered.len() == 1 && !delivered[0].contains("--start"), "{delivered:?}");
    }

    #[test]
    fn a_wrong_flag_is_a_usage_error() {
        let error = shaping(&["--mask", "user_id"]).build(&Profile::default(), None).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            error.render(),
            "error: cannot use `--mask user_id` without `mask_key`\n\
             hint: add `mask_key = ${env:MASK_KEY}` to the source's section of the profile\n"
        );
        let secret = Secret::new("k".to_owned());
        assert!(shaping(&["--mask", "user_id"]).build(&Profile::default(), Some(&Ok(secret))).unwrap().is_some());
    }

    #[test]
    fn a_shape_that_is_not_in_the_profile_is_a_usage_error() {
        let error = shaping(&["--shape", "login"]).build(&Profile::default(), None).unwrap_err();
        assert_eq!(
            error.render(),
            "error: there is no shape `login` in the profile\nhint: add a section [shape.login] to the profile\n"
        );
    }
}
