//! Hints that name flags, for failures and reasons of the modules below the commands.

use crate::pipeline::{Failure, FailureKind, Refused};

/// Returns the refusal of `--no-create`.
pub(crate) fn may_not_create(what: &str, section: &str) -> Refused {
    let what = format!("{what} does not exist on `{section}` and --no-create prevents its creation");
    Refused { what, numbers: Vec::new(), hint: "create it, or remove --no-create".to_owned() }
}

/// What each run can do with a bad record, whatever is wrong with it.
const SET_ASIDE: &str = "set bad records aside with --dead-letters topic:NAME or file:PATH, or omit them with --skip-bad-records";

/// Returns `failure` with the hint of its kind, unless it has one. The hint of a bad record follows what helps against each.
pub(crate) fn with_hint(failure: Failure) -> Failure {
    let hint = match &failure.kind {
        FailureKind::BadRecord => {
            let hint = failure.hint.as_ref().map_or_else(|| SET_ASIDE.to_owned(), |own| format!("{SET_ASIDE}; {own}"));
            return failure.hint(hint);
        }
        _ if failure.hint.is_some() => None,
        FailureKind::NotCreatable(topic) => {
            let hint = format!("name it at the start of the brokers: sdl sandbox ... {topic}:1");
            return failure.hint(hint);
        }
        FailureKind::GroupsNotListed => Some("name the group: sdl lag GROUP"),
        FailureKind::Other | FailureKind::Profile | FailureKind::Connect(_) => None,
        FailureKind::NotWritable(code) => record_hint(code),
        FailureKind::TooManyBadRecords => {
            Some("look at the dead letters, which probably have one cause; then start again, or raise --dead-letter-limit")
        }
        FailureKind::DeadLetterRejected => Some("name another destination with --dead-letters"),
        FailureKind::GaveUp => Some("start again when the destination is back, or raise --retry-for"),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Returns the hint for the code of a reason.
pub(crate) fn record_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "missing_key" => "--id offset accepts records without key",
        "key_not_text" => "--id offset accepts records with any key",
        "empty_id" => "--id offset needs neither key nor field",
        "id_too_long" => "--id offset makes short ids",
        "foreign_id" => "--id field:_id uses it as the id; --drop _id removes it",
        "claimed_field" => "--meta-prefix renames the metadata fields; --no-meta omits them",
        "not_json" => "--raw-value text or binary wraps values that are not JSON",
        "not_a_date" => "--time-field accepts Unix seconds or milliseconds and ISO 8601",
        "too_many_names" => "--max-names allows more",
        "tombstone" => "--on-tombstone skip filters it",
        "empty_routing" => "correct --routing",
        "routing_missing_exception" => "--routing derives one from fields of the record",
        "repeated_name" => "--drop removes every field of that name",
        "no_literal_name" => "--write replace stores such names",
        "document_too_large" => "--keep or --drop make it smaller",
        "document_missing" | "document_missing_exception" => "--op upsert creates missing documents",
        "pipeline_missing" => "create the pipeline, or correct --pipeline",
        "ambiguous_index" => "name one index with --index",
        "too_large" => "raise `http.max_content_length` of the server",
        "too_large_for_memory" => "raise `indexing_pressure.memory.limit` of the server",
        "mongodb_73" | "mongodb_13297" => "name another with --database or --collection",
        "mongodb_11000" => "drop the index if its values may repeat",
        "foreign_record" => "tell them apart with --id-prefix, or write to another index or collection",
        "foreign_version" => "let the later one win with --version timestamp, or write to another index or collection",
        "foreign_document" => "remove --no-meta, or tell them apart with --id-prefix, or write to another index or collection",
        "foreign_document_version" => {
            "remove --no-meta, or let the later one win with --version timestamp, or write to another index or collection"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_of_a_bad_record_names_what_helps_against_each_before_its_own() {
        let hint = |own: Option<&str>, kind: FailureKind| {
            let failure = Failure::new("record t/0@1 cannot be delivered").kind(kind);
            with_hint(own.into_iter().fold(failure, Failure::hint)).hint
        };
        assert_eq!(hint(None, FailureKind::BadRecord).as_deref(), Some(SET_ASIDE));
        for code in ["missing_key", "not_json", "tombstone", "document_too_large", "too_large", "mongodb_11000"] {
            let own = record_hint(code).unwrap();
            assert!(!own.contains("--dead-letters"), "{own}");
            assert_eq!(hint(Some(own), FailureKind::BadRecord), Some(format!("{SET_ASIDE}; {own}")));
        }
        assert_eq!(hint(Some("its own"), FailureKind::DeadLetterRejected).as_deref(), Some("its own"));
    }
}
