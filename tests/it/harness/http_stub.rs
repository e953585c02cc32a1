//! An HTTP server with scripted responses, for those that a real server does not give on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

/// A request, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in small letters.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Returns whether it is a bulk of documents, and not a trial write.
    pub(crate) fn is_bulk(&self) -> bool {
        self.path.contains("_bulk") && !String::from_utf8_lossy(&self.body).contains("sdl-check")
    }

    /// Returns whether it looks at ids made of offsets before anything is written: it does not know of any other index.
    fn is_first_look(&self) -> bool {
        let asked: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let is_new = |of: &Value| of["_id"].as_str().is_some_and(|id| id.contains(':'));
        self.path.contains("/_mget")
            && !self.path.starts_with("/real/")
            && asked["docs"].as_array().is_some_and(|asked| asked.iter().all(is_new))
    }

    /// Returns the actions of a bulk request, each with its source.
    pub(crate) fn actions(&self) -> Vec<(String, Value, Option<Value>)> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = std::str::from_utf8(&self.body).expect("a body of text");
        let mut lines = text.lines();
        let mut actions = Vec::new();
        while let Some(line) = lines.next() {
            let (name, action) = parse(line).as_object().and_then(|action| action.clone().into_iter().next()).expect("an action");
            let source = (name != "delete").then(|| parse(lines.next().expect("an action has a source")));
            actions.push((name, action, source));
        }
        actions
    }

    /// Returns the ids of a bulk request.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.actions().iter().map(|(_, action, _)| action["_id"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// A scripted response.
pub(crate) enum Reply {
    /// A status and a document.
    Json(u16, Value),
    /// A status and text of any kind.
    Text(u16, &'static str),
    /// These bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// No response: the connection is closed.
    Hangup,
    /// No response, and the connection stays open.
    Silence,
}

/// Returns an answer to a bulk request with these statuses; each failure has an error.
pub(crate) fn items(statuses: impl IntoIterator<Item = (u16, &'static str)>) -> Value {
    let item = |(status, kind): (u16, &str)| match kind {
        "" => json!({"create": {"status": status}}),
        kind => json!({"create": {"status": status, "error": {"type": kind, "reason": "as the script says"}}}),
    };
    json!({"errors": true, "items": statuses.into_iter().map(item).collect::<Vec<_>>()})
}

/// Returns an `_mget` response in which no document is found.
fn free(request: &Request) -> Reply {
    let asked: Value = serde_json::from_slice(&request.body).expect("a question");
    let count = asked["docs"].as_array().map_or(0, Vec::len);
    Reply::Json(200, json!({"docs": vec![json!({"found": false}); count]}))
}

/// Returns the answer that all of a bulk request is there; before, that none of it is.
pub(crate) fn created(request: &Request) -> Reply {
    if request.is_first_look() {
        return free(request);
    }
    Reply::Json(200, items(request.ids().iter().map(|_| (201, ""))))
}

/// A server on loopback, gone when it is dropped.
pub(crate) struct HttpStub {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl HttpStub {
    /// Starts a server that answers every request by `script`.
    pub(crate) fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (script, requests) = (Arc::new(Mutex::new(script)), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, requests) = (Arc::clone(&script), Arc::clone(&kept));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(request) = read(&mut reader) {
                        requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                        let reply = (script.lock().unwrap_or_else(PoisonError::into_inner))(&request);
                        if !answer(reader.get_mut(), reply) {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// Starts a server that calls itself OpenSearch, has no index, and leaves bulk requests and what else there is to `script`.
    pub(crate) fn search(mut script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start(move |request| match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
            ("GET", path) if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
            ("POST", _) if request.path.contains("_bulk") && !request.is_bulk() => {
                Reply::Json(200, items([(409, "version_conflict_engine_exception")]))
            }
            ("POST", _) if request.is_first_look() => free(request),
            ("PUT", _) => Reply::Json(200, json!({"acknowledged": true})),
            _ => script(request),
        })
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests until now.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the ids of each bulk request until now.
    pub(crate) fn bulks(&self) -> Vec<Vec<String>> {
        self.requests().iter().filter(|request| request.is_bulk()).map(Request::ids).collect()
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// Writes an answer and returns whether the connection stays.
fn answer(stream: &mut TcpStream, reply: Reply) -> bool {
    let (status, body) = match reply {
        Reply::Json(status, document) => (status, document.to_string()),
        Reply::Text(status, text) => (status, text.to_owned()),
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes);
            return false;
        }
        Reply::Hangup => return false,
        Reply::Silence => return true,
    };
    let head = format!("HTTP/1.1 {status} As Scripted\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok()
}
