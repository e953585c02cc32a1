use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("sending failed")]
struct Late(#[source] std::io::Error);

/// Judges one item, given as `STATUS` or `STATUS {"type":...}`.
fn judged(action: BulkAction, status: u16, error: &str) -> ItemVerdict {
    let error = if error.is_empty() { String::new() } else { format!(r#","error":{error}"#) };
    let body = format!(r#"{{"errors":true,"items":[{{"create":{{"_index":"i","status":{status}{error}}}}}]}}"#);
    judge(action, parse(body.as_bytes(), 1).unwrap().items().next().unwrap(), false)
}

/// Returns the verdict in a word, and its code.
fn word(verdict: &ItemVerdict) -> String {
    let reason = |word: &str, reason: &Reason| format!("{word} {}", reason.code());
    match verdict {
        ItemVerdict::Outcome(Outcome::Delivered) => "delivered".to_owned(),
        ItemVerdict::Outcome(Outcome::AlreadyThere) => "already there".to_owned(),
        ItemVerdict::Outcome(Outcome::Superseded) => "superseded".to_owned(),
        ItemVerdict::Outcome(Outcome::Retry(why)) => reason("retry", why),
        ItemVerdict::Outcome(Outcome::Unclear(why)) => reason("unclear", why),
        ItemVerdict::Outcome(Outcome::Reject(why)) => reason("bad", why),
        ItemVerdict::Outcome(Outcome::BatchRejected(why)) => reason("batch rejected", why),
        ItemVerdict::Outcome(Outcome::Stop(why)) => reason("stop", why),
        ItemVerdict::Conflict { index } => format!("conflict in {}", index.as_deref().unwrap_or("-")),
    }
}

#[test]
fn each_answer_for_a_document_has_one_meaning() {
    use BulkAction::{Create, Delete, Index, Update};
    let conflict = |theirs: i64, ours: i64| {
        format!(
            r#"{{"type":"version_conflict_engine_exception","index":".ds-i-1","reason":"[k]: version conflict, current version [{theirs}] is higher or equal to the one provided [{ours}]"}}"#
        )
    };
    let of = |kind: &str| format!(r#"{{"type":"{kind}","reason":"r"}}"#);
    let saying = |kind: &str, reason: &str| format!(r#"{{"type":"{kind}","reason":"{reason}"}}"#);
    let table: Vec<(BulkAction, u16, String, &str)> = vec![
        (Create, 201, String::new(), "delivered"),
        (Index, 200, String::new(), "delivered"),
        (Update, 200, String::new(), "delivered"),
        (Create, 200, String::new(), "bad dropped_by_pipeline"),
        (Create, 202, String::new(), "unclear unknown_answer"),
        (Create, 0, String::new(), "unclear unknown_answer"),
        (Create, 404, String::new(), "unclear unknown_answer"),
        (Delete, 404, String::new(), "unclear unknown_answer"),
        (Create, 409, conflict(1, 1), "conflict in .ds-i-1"),
        (Index, 409, conflict(8, 7), "superseded"),
        (Index, 409, conflict(7, 7), "conflict in .ds-i-1"),
        (Delete, 409, conflict(7, 7), "conflict in .ds-i-1"),
        (Delete, 409, conflict(8, 7), "superseded"),
        (Index, 409, of("version_conflict_engine_exception"), "conflict in -"),
        (Create, 500, of("timeout_exception"), "retry timeout_exception"),
        (Create, 500, of("i_o_exception"), "retry i_o_exception"),
        (Create, 500, of("mapper_exception"), "unclear mapper_exception"),
        (Update, 409, conflict(1, 1), "retry version_conflict_engine_exception"),
        (Create, 429, of("rejected_execution_exception"), "retry rejected_execution_exception"),
        (Create, 429, of("es_rejected_execution_exception"), "retry es_rejected_execution_exception"),
        (Create, 429, of("cluster_block_exception"), "retry cluster_block_exception"),
        (Create, 429, of("circuit_breaking_exception"), "retry circuit_breaking_exception"),
        (Create, 429, of("mapper_parsing_exception"), "retry mapper_parsing_exception"),
        (Create, 503, of("unavailable_shards_exception"), "retry unavailable_shards_exception"),
        (Create, 503, of("process_cluster_event_timeout_exception"), "retry process_cluster_event_timeout_exception"),
        (Create, 503, of("something_new"), "retry something_new"),
        (Create, 403, of("cluster_block_exception"), "retry cluster_block_exception"),
        (Create, 400, of("index_closed_exception"), "retry index_closed_exception"),
        (
            Create,
            400,
            saying(
                "validation_exception",
                "Validation Failed: 1: this action would add [2] shards, but this cluster currently has [3]/[3] maximum normal shards open;",
            ),
            "retry validation_exception",
        ),
        (Create, 400, of("validation_exception"), "bad validation_exception"),
        (Create, 400, of("mapper_parsing_exception"), "bad mapper_parsing_exception"),
        (Create, 400, of("document_parsing_exception"), "bad document_parsing_exception"),
        (Create, 400, of("strict_dynamic_mapping_exception"), "bad strict_dynamic_mapping_exception"),
        (Create, 400, of("illegal_argument_exception"), "bad illegal_argument_exception"),
        (
            Create,
            400,
            saying(
                "illegal_argument_exception",
                "Alias [i] has index routing associated with it [a], and was provided with routing value [b], rejecting operation",
            ),
            "stop illegal_argument_exception",
        ),
        (
            Index,
            400,
            saying("illegal_argument_exception", "only write ops with an op_type of create are allowed in data streams"),
            "stop illegal_argument_exception",
        ),
        (Create, 400, of("routing_missing_exception"), "stop routing_missing_exception"),
        (Create, 400, of("invalid_index_name_exception"), "bad invalid_index_name_exception"),
        (Update, 404, of("document_missing_exception"), "bad document_missing_exception"),
        (Create, 400, of("something_new"), "bad something_new"),
        (Create, 500, of("not_x_content_exception"), "bad not_x_content_exception"),
        (Create, 500, of("fail_processor_exception"), "bad fail_processor_exception"),
        (
            Create,
            500,
            r#"{"type":"illegal_state_exception","reason":"r","header":{"processor_type":"set_security_user"}}"#.to_owned(),
            "bad illegal_state_exception",
        ),
        (Create, 500, of("illegal_state_exception"), "unclear illegal_state_exception"),
        (Create, 500, of("something_new"), "unclear something_new"),
        (Create, 500, r#""only text""#.to_owned(), "unclear status_500"),
        (Create, 502, of("something_new"), "retry something_new"),
        (Create, 504, of("something_new"), "retry something_new"),
        (Create, 409, of("something_new"), "retry something_new"),
        (Create, 403, of("security_exception"), "stop security_exception"),
        (Create, 401, of("security_exception"), "stop login_refused"),
        (Create, 404, of("index_not_found_exception"), "stop index_not_found_exception"),
        (Create, 400, saying("illegal_argument_exception", "pipeline with id [nope] does not exist"), "stop pipeline_missing"),
        (
            Create,
            400,
            saying("illegal_argument_exception", "no write index is defined for alias [a]. The write index may be ..."),
            "stop no_write_index",
        ),
    ];
    for (action, status, error, wanted) in table {
        assert_eq!(word(&judged(action, status, &error)), wanted, "{action:?} {status} {error}");
    }
}

#[test]
fn a_missing_document_counts_as_deleted_and_one_in_a_failure_store_is_not_delivered() {
    let item = |rest: &str| format!(r#"{{"items":[{{"delete":{{{rest}}}}}]}}"#);
    let of = |action, rest: &str| word(&judge(action, parse(item(rest).as_bytes(), 1).unwrap().items().next().unwrap(), false));
    assert_eq!(of(BulkAction::Delete, r#""status":404,"result":"not_found""#), "delivered");
    assert_eq!(of(BulkAction::Update, r#""status":404,"result":"not_found""#), "unclear unknown_answer");
    assert_eq!(of(BulkAction::Update, r#""status":200,"result":"noop""#), "delivered");
    assert_eq!(of(BulkAction::Index, r#""status":200,"result":"noop""#), "bad dropped_by_pipeline");
    assert_eq!(of(BulkAction::Index, r#""status":200,"result":"updated""#), "delivered");
    assert_eq!(of(BulkAction::Create, r#""status":201,"failure_store":"used""#), "bad failure_store");
    assert_eq!(of(BulkAction::Create, r#""status":201,"failure_store":"not_enabled""#), "delivered");
}

#[test]
fn an_id_that_looks_like_a_version_is_not_parsed_as_one() {
    let reason =
        "[current version [9] provided [1]]: version conflict, current version [7] is higher or equal to the one provided [7]";
    let error = format!(r#"{{"type":"version_conflict_engine_exception","index":"i","reason":"{reason}"}}"#);
    assert_eq!(word(&judged(BulkAction::Index, 409, &error)), "conflict in i");
    let late = r#"{"type":"mapper_exception","reason":"timed out while waiting for a dynamic mapping update"}"#;
    assert_eq!(word(&judged(BulkAction::Create, 500, late)), "retry mapper_exception");
}

#[test]
fn a_truncated_short_or_foreign_answer_is_rejected() {
    let code = |body: &str, count| parse(body.as_bytes(), count).map(drop).map_err(|reason| reason.code().to_owned());
    let short = || Err("incomplete_answer".to_owned());
    let whole = r#"{"took":1,"errors":false,"items":[{"create":{"status":201}},{"index":{"status":200}}]}"#;
    assert_eq!(code(whole, 2), Ok(()));
    assert_eq!(code(whole, 3), short());
    assert_eq!(code(whole, 1), short());
    for other in
        [&whole[..whole.len() - 1], &whole[..20], "", "<html>502 Bad Gateway</html>", "[]", r#"{"items":7}"#, r#"{"error":{}}"#]
    {
        assert_eq!(code(other, 2), Err("unreadable_answer".to_owned()), "{other}");
    }
    assert_eq!(code(r#"{"items":[{}]}"#, 1), Ok(()), "an item that says nothing is no delivery");
}

/// Items of one length and of others, alike in their beginnings.
const ITEMS: [&str; 6] = [
    r#"{"create":{"status":201}}"#,
    r#"{"create":{"status":409}}"#,
    r#"{"create":{"status":429}}"#,
    r#"{"index":{"status":200}}"#,
    r#"{"index":{"status":2000}}"#,
    r#"{"create":{"status":500,"error":{"type":"a},{b","reason":"x"}}}"#,
];

proptest! {
    #[test]
    fn item_by_item_parsing_gives_the_same_outcomes(
        some in prop::collection::vec(0..ITEMS.len(), 1..6), times in 1..4_usize, more in "|,| |x|]}", head in "|\"took\":1,", asked in 0..20_usize,
    ) {
        let items: Vec<&str> = some.iter().cycle().take(some.len() * times).map(|item| ITEMS[*item]).collect();
        let body = format!("{{{head}\"items\":[{}{more}]}}", items.join(","));
        let one_by_one = serde_json::from_str::<BulkResponse<'_>>(&body);
        for count in [items.len(), asked] {
            match (parse(body.as_bytes(), count), &one_by_one) {
                (Ok(answer), Ok(expected)) => {
                    prop_assert_eq!(answer.items().collect::<Vec<_>>(), expected.items.iter().collect::<Vec<_>>());
                    prop_assert_eq!(count, items.len());
                }
                (Err(_), Ok(_)) => prop_assert!(count != items.len()),
                (Err(_), Err(_)) => {}
                (Ok(_), Err(error)) => prop_assert!(false, "{} is none: {}", body, error),
            }
        }
    }
}

#[test]
fn an_answer_to_the_whole_request_has_one_meaning() {
    let of = |kind: &str| format!(r#"{{"error":{{"type":"{kind}","reason":"r"}},"status":0}}"#);
    let table: Vec<(u16, String, &str)> = vec![
        (413, String::new(), "batch rejected too_large"),
        (400, of("illegal_argument_exception"), "batch rejected illegal_argument_exception"),
        (400, "<html>".to_owned(), "unclear http_400"),
        (
            400,
            r#"{"error":{"type":"illegal_argument_exception","reason":"pipeline with id [p] does not exist"},"status":400}"#
                .to_owned(),
            "stop pipeline_missing",
        ),
        (429, of("es_rejected_execution_exception"), "retry es_rejected_execution_exception"),
        (429, String::new(), "retry http_429"),
        (403, of("cluster_block_exception"), "retry cluster_block_exception"),
        (503, of("master_not_discovered_exception"), "retry master_not_discovered_exception"),
        (502, "<html>bad gateway</html>".to_owned(), "retry http_502"),
        (500, of("something_new"), "unclear something_new"),
        (405, String::new(), "unclear http_405"),
        (301, String::new(), "unclear http_301"),
        (401, of("security_exception"), "stop login_refused"),
        (401, String::new(), "stop login_refused"),
        (403, of("security_exception"), "stop security_exception"),
        (403, "<html>".to_owned(), "stop security_exception"),
        (404, of("index_not_found_exception"), "stop index_not_found_exception"),
        (404, String::new(), "unclear http_404"),
    ];
    for (status, body, wanted) in table {
        assert_eq!(word(&ItemVerdict::Outcome(whole(status, body.as_bytes()))), wanted, "{status} {body}");
    }
    let late = CallError::new("http://a:1", &Late(std::io::Error::other("operation timed out")), Duration::from_secs(60));
    let Outcome::Unclear(reason) = unanswered(&late, &ElasticSection::default()) else { panic!("a time-out proves nothing") };
    assert!(reason.is_time_out());
    let Outcome::Unclear(reason) = whole(500, b"") else { panic!("an unknown error proves nothing") };
    assert!(!reason.is_overload());
    let Outcome::Retry(reason) = whole(429, b"") else { panic!("an overload passes") };
    assert!(reason.is_overload());
}

#[test]
fn a_connection_that_ends_before_the_request_is_unexplained() {
    let call = |text: &str| CallError::new("http://a:1", &Late(std::io::Error::other(text.to_owned())), Duration::from_secs(1));
    assert!(call("operation was canceled: connection was not ready").is_unexplained());
    for explained in ["received fatal alert: CertificateRequired", "connection closed before message completed", "os error 111"] {
        assert!(!call(explained).is_unexplained(), "{explained}");
    }
}

#[test]
fn a_reason_names_the_field_and_keeps_the_text_of_the_server_in_its_detail() {
    let reason = |kind: &str, text: &str| {
        let error = serde_json::json!({ "type": kind, "reason": text });
        let ItemVerdict::Outcome(Outcome::Reject(reason)) = judged(BulkAction::Create, 400, &error.to_string()) else {
            panic!("{kind}")
        };
        assert_eq!(reason.detailed(), Some(text));
        assert!(!reason.message().contains("SECRET"), "{}", reason.message());
        (reason.path().map(str::to_owned), reason.message().to_owned())
    };
    let preview =
        "[1:17] failed to parse field [user.age] of type [long] in document with id 'x'. Preview of field's value: 'SECRET'";
    let (path, message) = reason("document_parsing_exception", preview);
    assert_eq!(path.as_deref(), Some("user.age"));
    assert_eq!(message, "field `user.age` does not fit the mapping");
    let path = |kind: &str, text: &str| reason(kind, text).0;
    let strict = "[1:5] mapping set to strict, dynamic introduction of [b] within [a] is not allowed";
    assert_eq!(path("strict_dynamic_mapping_exception", strict).as_deref(), Some("a.b"));
    let top = "mapping set to strict, dynamic introduction of [b] within [_doc] is not allowed";
    assert_eq!(path("strict_dynamic_mapping_exception", top).as_deref(), Some("b"));
    let object = "object mapping for [a] tried to parse field [a] as object, but found a concrete value";
    assert_eq!(path("mapper_parsing_exception", object).as_deref(), Some("a"));
    let immense =
        "Document contains at least one immense term in field=\"t\" (whose UTF8 encoding is longer than ...), first: 'SECRET'";
    assert_eq!(path("illegal_argument_exception", immense).as_deref(), Some("t"));
    assert_eq!(path("illegal_argument_exception", "Limit of total fields [3] has been exceeded"), None);
}

#[test]
fn each_cause_is_printed_once_without_control_characters() {
    let error = serde_json::json!({
        "type": "mapper_parsing_exception", "reason": "outer",
        "caused_by": {"type": "x", "reason": "outer", "caused_by": {"reason": "inner"}}
    });
    assert_eq!(reason::text(&error), "outer: inner");
    assert_eq!(clean("a\u{1b}[31m\nb"), "a [31m b");
    assert_eq!(clean(&"x".repeat(1000)).len(), 300);
}

#[test]
fn a_record_too_large_on_its_own_is_rejected_at_once() {
    let pressed = |own: u64, most: u64| {
        let reason = format!(
            "rejected execution of primary operation [coordinating_and_primary_bytes=9, replica_bytes=0, all_bytes=9, primary_operation_bytes={own}, max_primary_bytes={most}]"
        );
        serde_json::json!({"type": "es_rejected_execution_exception", "reason": reason})
    };
    let item = |own, most| word(&judged(BulkAction::Create, 429, &pressed(own, most).to_string()));
    assert_eq!(item(71, 51), "batch rejected too_large_for_memory");
    assert_eq!(item(51, 51), "retry es_rejected_execution_exception");
    let all = |own, most| whole(429, serde_json::json!({"error": pressed(own, most), "status": 429}).to_string().as_bytes());
    assert_eq!(word(&ItemVerdict::Outcome(all(71, 51))), "batch rejected too_large_for_memory");
    assert_eq!(word(&ItemVerdict::Outcome(all(5, 51))), "retry es_rejected_execution_exception");
}

#[test]
fn a_document_rejected_by_a_pipeline_is_bad() {
    let body = br#"{"items":[{"create":{"status":500,"error":{"type":"illegal_state_exception","reason":"r"}}}]}"#;
    let answer = parse(body, 1).unwrap();
    let item = answer.items().next().unwrap();
    assert_eq!(word(&judge(BulkAction::Create, item, true)), "bad illegal_state_exception");
    assert_eq!(word(&judge(BulkAction::Create, item, false)), "unclear illegal_state_exception");
}
