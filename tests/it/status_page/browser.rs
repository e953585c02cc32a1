//! The status page in a real browser, without a window.

use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;

use super::{HOSTILE, HostileRun, status};
use crate::harness::{HttpStub, Reply};

/// Returns the page at `url` as it is when its script has run for some seconds of the browser's own clock.
fn page(url: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let mut browser = Command::new("timeout");
    browser.args(["60", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    browser.arg(format!("--user-data-dir={}", home.path().display())).env("HOME", home.path());
    let ran = browser.args(["--virtual-time-budget=7000", "--dump-dom", url]).output().expect("a browser starts");
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{errors}");
    // The browser logs what a policy forbids.
    assert!(!errors.contains("Content Security Policy"), "{errors}");
    String::from_utf8(ran.stdout).expect("a page of text")
}

/// Returns the text as a browser writes it in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
#[ignore = "needs chromium"]
fn real_browser_shows_a_stall_and_its_end() {
    let run = HostileRun::start();
    status(&run.scrape, "it is stalled", |status| status["state"] == "stalled");
    let url = format!("http://{}/", run.scrape.address);
    let stalled = page(&url);
    assert!(stalled.contains("class=\"badge bad\" role=\"status\">stalled<"), "{stalled}");
    assert!(stalled.contains("Delivery stalled for ") && stalled.contains("<code>not_json</code>"), "{stalled}");
    assert!(stalled.contains(&format!("<code>{}</code>", escaped(HOSTILE))) && !stalled.contains("<img"), "{stalled}");
    run.is_up.store(true, SeqCst);
    status(&run.scrape, "all is delivered", |status| status["records"]["delivered"] == 270 && status["state"] == "caught_up");
    let done = page(&url);
    assert!(done.contains(">caught up<") && done.contains("id=\"delivered\">270<"), "{done}");
    assert!(done.contains("local_kafka → ") && !done.contains("Delivery stalled"), "{done}");
    run.running.end();
    assert!(!page(&url).contains(">caught up<"), "nothing answers");
}

#[test]
#[ignore = "needs chromium"]
fn real_browser_runs_nothing_of_a_name() {
    let names = [HOSTILE, "<script>document.title='owned'</script>", "\"><svg onload=document.title='owned'>", "{{7*7}}"];
    let [flow, topic, cause, code] = names;
    let records = json!({"read": 10, "delivered": 9, "dead_lettered": 1, "bytes": 1_000, "retried": 0, "skipped": 0});
    let data = json!({
        "schema": 1, "version": "1", "command": "replicate", "run": "r", "flow": flow, "seconds": 5, "state": "stalled",
        "waiting": topic, "problems": [{"side": cause, "stalled": true, "code": code, "seconds": 3}],
        "records_per_second": 1.5, "in_flight": 0, "lag": 7, "response_ms": {"p50": 1.0, "p99": null}, "records": records,
        "causes": [{"code": cause, "records": 1}], "partition_count": 1,
        "partitions": [{"topic": topic, "partition": 0, "position": 3, "committed": null, "lag": 7}],
    });
    // Without the headers of sdl, of which the policy alone would stop a script.
    let stub = HttpStub::start(move |request| {
        let (kind, body) = match request.path.as_str() {
            "/" => ("text/html", include_str!("../../../src/report/status_page/page.html").to_owned()),
            "/status.js" => ("text/javascript", include_str!("../../../src/report/status_page/status.js").to_owned()),
            "/status.css" => ("text/css", include_str!("../../../src/report/status_page/status.css").to_owned()),
            "/status.json" => ("application/json", data.to_string()),
            _ => return Reply::Text(404, ""),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\r\n", body.len());
        Reply::Bytes((head + &body).into_bytes())
    });
    let shown = page(&stub.url());
    assert!(shown.contains("<title>stalled · "), "the script has run: {shown}");
    assert!(!shown.contains("owned</title>") && !shown.contains("<img") && !shown.contains("<svg onload"), "{shown}");
    for name in names {
        assert!(shown.contains(&escaped(name)), "{name} is shown as it is: {shown}");
    }
}
