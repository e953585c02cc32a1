//! A peer of MongoDB's wire protocol whose responses a test scripts.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

/// The peer's reaction to a command.
pub(crate) enum Answer {
    /// It answers.
    Reply(Document),
    /// It answers, with each `é` cut in its middle.
    Cut(Document),
    /// It closes the connection without a word.
    Close,
    /// It closes it, and every other one, and takes no more for that test.
    Die,
    /// It never answers.
    Silence,
}

/// The scripted answer to a command, whose database is in `$db`.
type Script = dyn FnMut(&Document) -> Answer + Send;

/// A MongoDB peer. It answers the driver's own commands; the script answers all others. Dropping it closes every connection.
pub(crate) struct MongoStub {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// What it says of itself.
    hello: Document,
    script: Mutex<Box<Script>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    connections: Vec<TcpStream>,
    /// The names of the commands that the script was asked about.
    received: Vec<String>,
}

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

impl MongoStub {
    /// Starts a peer on a free port.
    pub(crate) fn start(script: impl FnMut(&Document) -> Answer + Send + 'static) -> Self {
        Self::saying(Document::new(), script)
    }

    /// Starts a peer that says this of itself when it is greeted; one with a `setName` is the only member of that replica set, and the
    /// script of one without `helloOk` answers `hello`.
    pub(crate) fn saying(differs: Document, script: impl FnMut(&Document) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let mut hello = doc! {
            "ismaster": true, "isWritablePrimary": true, "helloOk": true, "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "minWireVersion": 0, "maxWireVersion": 21,
            "readOnly": false, "ok": 1.0,
        };
        if differs.contains_key("setName") {
            hello.extend(doc! {"hosts": [address.to_string()], "me": address.to_string()});
        }
        hello.extend(differs);
        let shared = Arc::new(Shared { hello, script: Mutex::new(Box::new(script)), state: Mutex::default() });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut state = serving.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.dead {
                    return;
                }
                state.connections.push(connection.try_clone().expect("a connection can be shared"));
                drop(state);
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || {
                    let _ = serve(connection.try_clone().expect("a connection can be shared"), &shared);
                    let _ = connection.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared }
    }

    /// Returns its connection string.
    pub(crate) fn uri(&self) -> String {
        format!("mongodb://{}", self.address)
    }

    /// Returns the names of the commands that the script was asked about.
    pub(crate) fn received(&self) -> Vec<String> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }
}

impl Drop for MongoStub {
    fn drop(&mut self) {
        die(&self.shared);
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

fn die(shared: &Shared) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.dead = true;
    for connection in state.connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
}

fn serve(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let mut head = [0; 16];
        connection.read_exact(&mut head)?;
        let int = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (length, request, kind) = (int(0), int(4), int(12));
        let mut body = vec![0; usize::try_from(length).expect("a length is positive") - 16];
        connection.read_exact(&mut body)?;
        let command = match kind {
            OP_QUERY => {
                let name = body[4..].iter().position(|byte| *byte == 0).expect("a name ends");
                document(&body[4 + name + 1 + 8..])
            }
            OP_MSG => {
                assert_eq!(body[4], 0, "the body comes first");
                document(&body[5..])
            }
            other => panic!("unexpected message {other}"),
        };
        let answer = answer(&command, shared);
        let is_cut = matches!(answer, Answer::Cut(_));
        let reply = match answer {
            Answer::Reply(reply) | Answer::Cut(reply) => reply,
            Answer::Close => return Ok(()),
            Answer::Die => {
                die(shared);
                return Ok(());
            }
            Answer::Silence => continue,
        };
        let mut reply = RawDocumentBuf::try_from(&reply).expect("a reply is a document").into_bytes();
        if is_cut {
            cut_texts(&mut reply);
        }
        let mut out = Vec::new();
        let ints = |out: &mut Vec<u8>, ints: &[i32]| ints.iter().for_each(|int| out.extend_from_slice(&int.to_le_bytes()));
        if kind == OP_QUERY {
            ints(&mut out, &[0, 0, request, OP_REPLY, 8, 0, 0, 0, 1]);
        } else {
            ints(&mut out, &[0, 0, request, OP_MSG, 0]);
            out.push(0);
        }
        out.extend_from_slice(&reply);
        let length = i32::try_from(out.len()).expect("a reply is small");
        out[..4].copy_from_slice(&length.to_le_bytes());
        connection.write_all(&out)?;
    }
}

/// Takes the second byte of each `é` away, so that no text with one is UTF-8.
fn cut_texts(document: &mut [u8]) {
    let whole = "é".as_bytes();
    for at in 0..document.len() - 1 {
        if document[at..].starts_with(whole) {
            document[at + 1] = b'.';
        }
    }
}

fn document(bytes: &[u8]) -> Document {
    let length = i32::from_le_bytes(bytes[..4].try_into().expect("a document has a length"));
    let bytes = &bytes[..usize::try_from(length).expect("a length is positive")];
    Document::try_from(&RawDocumentBuf::from_bytes(bytes.to_vec()).expect("a document")).expect("its elements are sound")
}

fn answer(command: &Document, shared: &Shared) -> Answer {
    let name = command.keys().next().expect("a command has a name").as_str();
    // The driver sends the older command to a server that does not know the newer one.
    let knows_hello = shared.hello.get_bool("helloOk").unwrap_or(false);
    match name {
        "hello" if !knows_hello => ask(command, shared),
        "hello" | "ismaster" | "isMaster" => Answer::Reply(shared.hello.clone()),
        "endSessions" => Answer::Reply(doc! {"ok": 1.0}),
        _ => ask(command, shared),
    }
}

/// Asks the script.
fn ask(command: &Document, shared: &Shared) -> Answer {
    let name = command.keys().next().expect("a command has a name");
    shared.state.lock().unwrap_or_else(PoisonError::into_inner).received.push(name.clone());
    (shared.script.lock().unwrap_or_else(PoisonError::into_inner))(command)
}

/// Returns the documents that a command that writes has: inserted ones, updates, or deletes.
pub(crate) fn written(command: &Document) -> Vec<Document> {
    let list = ["documents", "updates", "deletes"].iter().find_map(|name| command.get_array(name).ok());
    list.into_iter().flatten().filter_map(Bson::as_document).cloned().collect()
}

/// Returns the answer to a command that wrote all it has.
pub(crate) fn all_well(command: &Document) -> Answer {
    Answer::Reply(doc! {"n": i32::try_from(written(command).len()).expect("a small number"), "ok": 1.0})
}

/// Returns the answer of a command that failed whole.
pub(crate) fn failed(code: i32) -> Answer {
    Answer::Reply(doc! {"ok": 0.0, "code": code, "codeName": "Scripted", "errmsg": "the script says so"})
}
