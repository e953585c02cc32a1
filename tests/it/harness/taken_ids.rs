//! The errors of records whose ids are taken: the same for every destination with ids.

/// Returns flags of a load of one record, `logins/0@0`, and the end of its standard error where the id of that record is taken: by a
/// record of elsewhere, by a document whose origin is not stored, and by a document that look-ups do not find.
pub(crate) fn taken_id_errors() -> [(&'static str, String); 3] {
    let apart = "tell them apart with --id-prefix, or write to another index or collection";
    [
        (
            "",
            format!(
                "error: a record of another topic or cluster, or of this topic before it was re-created, is stored under the id of \
                 record logins/0@0\nhint: {apart}\n"
            ),
        ),
        (
            "--no-meta",
            format!(
                "error: another document is stored under the id of record logins/0@0, and without metadata its origin is unknown\n\
                 hint: remove --no-meta, or {apart}\n"
            ),
        ),
        (
            "",
            "error: the id of record logins/0@0 is taken, and 5 look-ups found nothing under it\n\
             hint: write to a place where an id is stored as it is sent: without a pipeline that changes it, or a collation\n"
                .to_owned(),
        ),
    ]
}
