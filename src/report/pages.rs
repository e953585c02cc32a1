//! The pages of the HTTP endpoint, and who may read them.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

/// A run or an exporter that the endpoint reports on.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// Returns the page of metrics.
    fn metrics(&self) -> Bytes;

    /// Returns whether it is ready.
    ///
    /// # Errors
    /// The reason, when it is not ready.
    fn ready(&self) -> Result<(), String>;

    /// Returns the data of the status page, if there is one.
    fn status(&self) -> Option<Bytes> {
        None
    }
}

type Page = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// The parts of the status page, which are the same for every run.
const STATUS_PAGE: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("status_page/page.html")),
    ("/status.css", "text/css; charset=utf-8", include_bytes!("status_page/status.css")),
    ("/status.js", "text/javascript; charset=utf-8", include_bytes!("status_page/status.js")),
    ("/icon.svg", "image/svg+xml", include_bytes!("status_page/icon.svg")),
];

/// The page loads its own parts only, runs no script of its markup, and appears in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// On every response: a browser neither guesses types nor keeps, frames, embeds or names what it is sent.
const HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Returns whether a request is a probe's: its answer is short.
pub(crate) fn is_probe<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/healthz" | "/readyz")
}

/// Returns the response while too many others are sent.
pub(crate) fn busy() -> Page {
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many requests at once\n".into());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Returns the response to a request.
pub(crate) fn answer(exposed: &dyn Monitored, request: &Request<Incoming>) -> Page {
    let text = |status, text: Bytes| page(status, TEXT, text);
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let path = request.uri().path();
    match path {
        "/metrics" => return text(StatusCode::OK, exposed.metrics()),
        "/healthz" => return text(StatusCode::OK, "ok\n".into()),
        "/readyz" => {
            return match exposed.ready() {
                Ok(()) => text(StatusCode::OK, "ready\n".into()),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n").into()),
            };
        }
        _ => {}
    }
    let part = STATUS_PAGE.iter().find(|(of, ..)| *of == path);
    let is_status = part.is_some() || path == "/status.json";
    let Some(status) = exposed.status().filter(|_| is_status) else {
        return text(StatusCode::NOT_FOUND, "not found; pages: /, /metrics, /healthz, /readyz\n".into());
    };
    if !names_this_machine(request.headers()) {
        let refusal = "open this page by an IP address, as localhost, or by the name of its machine\n";
        return text(StatusCode::MISDIRECTED_REQUEST, refusal.into());
    }
    match part {
        Some((_, kind, bytes)) => page(StatusCode::OK, kind, Bytes::from_static(bytes)),
        None => page(StatusCode::OK, JSON, status),
    }
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Page {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns whether a browser has been told an address of this machine rather than a name that somebody else may resolve to it: a page
/// of theirs could then read this one.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else { return false };
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    let name = name.to_ascii_lowercase();
    let own_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || is_local(&name) || (!own_name.is_empty() && name == own_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        names_this_machine(&headers)
    }

    #[test]
    fn only_names_that_nobody_else_can_resolve_are_known() {
        for host in
            ["127.0.0.1:9464", "127.0.0.1", "10.1.2.3:9464", "[::1]:9464", "[::1]", "localhost:9464", "LOCALHOST", "a.localhost"]
        {
            assert!(is_known(&[host]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example:9464",
            "localhost.evil.example",
            "::1",
            "[x]",
            ":9464",
        ] {
            assert!(!is_known(&[host]), "{host}");
        }
        assert!(!is_known(&[]) && !is_known(&["localhost", "evil.example"]), "one is needed, and one only");
    }

    #[test]
    fn the_page_has_no_script_style_or_address_of_its_own() {
        let page = include_str!("status_page/page.html");
        for found in ["<style", "style=", "onload", "onclick", "http:", "https:", "//"] {
            assert!(!page.contains(found), "{found}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"status.js\" defer></script>").count());
        let script = include_str!("status_page/status.js");
        for found in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "http:", "https:"] {
            assert!(!script.contains(found), "{found}");
        }
    }
}
