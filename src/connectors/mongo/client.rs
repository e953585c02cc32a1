//! The connection to a server, and commands with a deadline.

use std::time::Duration;

use mongodb::bson::{Bson as Value, Document, RawDocumentBuf, Utf8Lossy};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use tokio::time::Instant;

use crate::connectors::connect_error::WaitLog;
use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::command_error::CommandError;
use crate::connectors::mongo::diagnosis;
use crate::connectors::mongo::response;
use crate::pipeline::{ConnectorError, Failure, Outcome};
use crate::profile::MongoSection;

/// How long a command may take: longer than the server waits for a majority.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long server selection and a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between attempts of the first contact.
const CONNECT_BACKOFF: Duration = Duration::from_millis(250);

/// The options of a connection string that the sink sets itself, each with the value that asks for the same.
const OWN_OPTIONS: [(&str, &str); 7] = [
    ("w", "majority"),
    ("journal", "true"),
    ("wtimeoutms", ""),
    ("readpreference", "primary"),
    ("maxpoolsize", ""),
    ("connecttimeoutms", ""),
    ("serverselectiontimeoutms", ""),
];

/// A server, or a set of them, of the MongoDB protocol.
#[derive(Clone)]
pub struct MongoClient {
    section: MongoSection,
    client: mongodb::Client,
    deadline: Duration,
}

impl MongoClient {
    /// Connects to the server of `section`; the client may have this many commands in flight.
    ///
    /// # Errors
    /// When the section is not valid, or the login is rejected, or no server answers within `wait`.
    pub async fn connect(section: &MongoSection, commands: usize, wait: Duration) -> Result<Self, ConnectorError> {
        Self::connect_to(section, commands, wait, false).await
    }

    /// Connects to the first server of `section` alone, whatever set of servers it belongs to.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn connect_directly(section: &MongoSection, wait: Duration) -> Result<Self, ConnectorError> {
        Self::connect_to(section, 1, wait, true).await
    }

    async fn connect_to(
        section: &MongoSection,
        commands: usize,
        wait: Duration,
        is_direct: bool,
    ) -> Result<Self, ConnectorError> {
        // A connection string can need DNS lookups.
        let options = match tokio::time::timeout(wait.max(CONNECT_BACKOFF), options(section, commands, wait)).await {
            Ok(options) => options.map_err(|error| command_error(&error)),
            Err(_) => Err(CommandError::TimedOut),
        };
        let mut options = options.map_err(|failure| diagnosis::diagnose(section, &failure, wait))?;
        if is_direct {
            options.direct_connection = Some(true);
            options.repl_set_name = None;
            options.hosts.truncate(1);
        }
        let unused = section.uri.as_ref().map_or_else(Vec::new, |uri| unused_options(uri.reveal()));
        if !unused.is_empty() {
            let (name, unused) = (&section.name, unused.join("`, `"));
            tracing::warn!(
                "`uri` of [{name}]: `{unused}` is not used: writes go to the primary with w=majority, within fixed times"
            );
        }
        let client =
            mongodb::Client::with_options(options).map_err(|error| diagnosis::diagnose(section, &command_error(&error), wait))?;
        let client = Self { section: section.clone(), client, deadline: COMMAND_TIMEOUT };
        let deadline = Instant::now() + wait;
        let mut last = CommandError::TimedOut;
        let mut log = WaitLog::new(&section.name, wait);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(error) = client.ping(left.max(CONNECT_BACKOFF)).await else { return Ok(client) };
            // The last attempt may have too little time: its time-out must not hide the previous error.
            if error != CommandError::TimedOut {
                last = error;
            }
            if diagnosis::is_lasting(section, &last) {
                return Err(diagnosis::diagnose(section, &last, wait).into());
            }
            if Instant::now() + CONNECT_BACKOFF >= deadline {
                return Err(log.gave_up(diagnosis::diagnose(section, &last, wait)).into());
            }
            log.on_failed_attempt(|| diagnosis::diagnose(section, &last, wait));
            tokio::time::sleep(CONNECT_BACKOFF).await;
        }
    }

    /// Sets how long a command may take.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Returns the name of the section that it is connected to.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.section.name
    }

    pub(super) async fn ping(&self, within: Duration) -> Result<(), CommandError> {
        let mut out = Bson::default();
        let begun = out.begin();
        out.int32("ping", 1);
        out.end(begun);
        self.command("admin", out.bytes, within.min(COMMAND_TIMEOUT)).await.map(drop)
    }

    /// Returns whether the collection exists.
    pub(super) async fn has(&self, database: &str, collection: &str) -> Result<bool, Failure> {
        let reply = self.list(database, collection, true).await;
        let reply = reply.map_err(|failure| diagnosis::diagnose(&self.section, &failure, COMMAND_TIMEOUT))?;
        Ok(listed(&reply, collection).is_some_and(|(found, _)| found.is_some()))
    }

    /// Returns the server's answer about a collection; only its name needs no right to list collections.
    pub(super) async fn list(&self, database: &str, collection: &str, name_only: bool) -> Result<Document, CommandError> {
        let mut out = Bson::default();
        let command = out.begin();
        out.int32("listCollections", 1);
        let filter = out.begin_document("filter");
        out.text("name", collection);
        out.end(filter);
        if name_only {
            out.boolean("nameOnly", true);
            out.boolean("authorizedCollections", true);
        }
        out.end(command);
        self.write(database, out.bytes).await
    }

    /// Counts the documents of a collection whose `field` is `value`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn count(&self, database: &str, collection: &str, field: &str, value: i32) -> Result<i64, ConnectorError> {
        let mut out = Bson::default();
        let command = out.begin();
        out.text("count", collection);
        let query = out.begin_document("query");
        out.int32(field, value);
        out.end(query);
        out.end(command);
        let reply = self.write(database, out.bytes).await;
        let reply = reply.map_err(|failure| diagnosis::diagnose(&self.section, &failure, COMMAND_TIMEOUT))?;
        Ok(response::number(&reply, "n").into())
    }

    /// Proves that a collection can be written to, and leaves nothing: updates a document that does not exist.
    pub(super) async fn probe(&self, database: &str, collection: &str) -> Result<(), CommandError> {
        let mut out = Bson::default();
        let command = out.begin();
        out.text("update", collection);
        let concern = out.begin_document("writeConcern");
        out.text("w", "majority");
        out.int32("wtimeout", 20_000);
        out.end(concern);
        let updates = out.begin_array("updates");
        let update = out.begin_item(0);
        let query = out.begin_document("q");
        out.text("_id", "sdl: is this collection writable?");
        out.end(query);
        let change = out.begin_document("u");
        let set = out.begin_document("$set");
        out.boolean("writable", true);
        out.end(set);
        out.end(change);
        out.boolean("upsert", false);
        out.end(update);
        out.end(updates);
        out.end(command);
        let reply = self.write(database, out.bytes).await?;
        let errors = ["writeErrors", "writeConcernError"].map(|name| match reply.get(name) {
            Some(Value::Array(errors)) => errors.first().and_then(|error| error.as_document()).cloned(),
            Some(Value::Document(error)) => Some(error.clone()),
            _ => None,
        });
        match errors.into_iter().flatten().next() {
            None => Ok(()),
            Some(error) => Err(response::error_named_in(&error)),
        }
    }

    /// Returns the failure of a probe.
    pub(super) fn not_writable(&self, database: &str, collection: &str, error: &CommandError) -> Failure {
        diagnosis::not_writable(&self.section, database, collection, error)
    }

    pub(super) fn section(&self) -> &MongoSection {
        &self.section
    }

    pub(super) async fn write(&self, database: &str, command: Vec<u8>) -> Result<Document, CommandError> {
        self.command(database, command, self.deadline).await
    }

    /// Runs a command that is given as a document.
    pub(super) async fn run(&self, database: &str, command: &Document) -> Result<Document, CommandError> {
        let bytes =
            RawDocumentBuf::try_from(command).map_err(|_| CommandError::Unreadable("the command is not BSON".to_owned()))?;
        self.write(database, bytes.into_bytes()).await
    }

    /// Runs a command on the primary and returns its answer with `ok: 1`, which can hold errors of single documents.
    async fn command(&self, database: &str, command: Vec<u8>, within: Duration) -> Result<Document, CommandError> {
        let command = RawDocumentBuf::from_bytes(command).expect("each document is ended");
        let database = self.client.database(database);
        let mut task = tokio::spawn(async move { database.run_raw_command(command).await });
        match tokio::time::timeout(within, &mut task).await {
            Err(_) => {
                // Dropping the command closes its connection, which a vanished host would hold for a quarter of an hour.
                task.abort();
                Err(CommandError::TimedOut)
            }
            // A panic may be caused by what was sent.
            Ok(Err(error)) => Err(CommandError::Unreadable(format!("the client failed: {error}"))),
            Ok(Ok(Err(error))) => answer_with_cut_text(&error).unwrap_or_else(|| Err(command_error(&error))),
            Ok(Ok(Ok(reply))) => Ok(reply),
        }
    }
}

/// Returns what the answer to `listCollections` says of a collection, and whether it lists all that it was asked for; some servers
/// ignore the filter.
pub(super) fn listed<'a>(reply: &'a Document, collection: &str) -> Option<(Option<&'a Document>, bool)> {
    let cursor = reply.get_document("cursor").ok()?;
    let batch = cursor.get_array("firstBatch").ok()?;
    let is_it = |found: &&Document| found.get_str("name").is_ok_and(|name| name == collection);
    let is_complete = !matches!(cursor.get("id"), Some(Value::Int64(1..)));
    Some((batch.iter().filter_map(Value::as_document).find(is_it), is_complete))
}

impl std::fmt::Debug for MongoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MongoClient").field(&self.section.name).finish()
    }
}

async fn options(section: &MongoSection, commands: usize, wait: Duration) -> Result<ClientOptions, Error> {
    let mut options = match (&section.uri, &section.host) {
        (Some(uri), _) => ClientOptions::parse(uri.reveal()).await?,
        (None, host) => {
            let host = host.clone().unwrap_or_default();
            ClientOptions::builder().hosts(vec![ServerAddress::Tcp { host, port: Some(section.port) }]).build()
        }
    };
    if let Some(username) = &section.username {
        let credential = Credential::builder()
            .username(username.clone())
            .password(section.password.as_ref().map(|password| password.reveal().to_owned()))
            .source(section.auth_database.clone())
            .build();
        options.credential = Some(credential);
    }
    if section.tls || section.tls_ca_file.is_some() {
        let mut tls = match options.tls.take() {
            Some(Tls::Enabled(tls)) => tls,
            _ => TlsOptions::builder().build(),
        };
        if let Some(file) = &section.tls_ca_file {
            tls.ca_file_path = Some(file.into());
        }
        options.tls = Some(Tls::Enabled(tls));
    }
    options.app_name.get_or_insert_with(|| "sdl".to_owned());
    // Shorter than the wait for the first contact: its error names the cause.
    options.server_selection_timeout = Some(CONNECT_TIMEOUT.min(wait / 4 * 3).max(CONNECT_BACKOFF));
    options.connect_timeout = Some(CONNECT_TIMEOUT);
    options.max_pool_size = Some(u32::try_from(commands).unwrap_or(u32::MAX).saturating_add(1));
    Ok(options)
}

/// Returns the servers of the section, `host:port`, for which a connection string can need a name server.
///
/// # Errors
/// When the section cannot be used, or its name is not found within `wait`.
pub(crate) async fn servers(section: &MongoSection, wait: Duration) -> Result<Vec<String>, Failure> {
    let options = match tokio::time::timeout(wait, options(section, 1, wait)).await {
        Ok(options) => options.map_err(|error| command_error(&error)),
        Err(_) => Err(CommandError::TimedOut),
    };
    let options = options.map_err(|failure| diagnosis::diagnose(section, &failure, wait))?;
    let server = |address: &ServerAddress| match address {
        ServerAddress::Tcp { host, port } => Some(with_port(host, *port)),
        _ => None,
    };
    Ok(options.hosts.iter().filter_map(server).collect())
}

/// Returns `host:port`, with MongoDB's port if there is none.
fn with_port(host: &str, port: Option<u16>) -> String {
    let port = port.unwrap_or(27017);
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Returns the names of the options in a connection string that ask for something else than the sink does.
fn unused_options(uri: &str) -> Vec<&str> {
    let options = uri.rsplit_once('?').map_or("", |(_, options)| options);
    let is_unused = |(name, value): &(&str, &str)| {
        OWN_OPTIONS.iter().any(|(own, same)| own.eq_ignore_ascii_case(name) && !same.eq_ignore_ascii_case(value))
    };
    options.split('&').filter_map(|option| option.split_once('=')).filter(is_unused).map(|(name, _)| name).collect()
}

/// Returns the answer that the driver did not read because it holds a text that is not UTF-8: servers cut texts within a character.
fn answer_with_cut_text(error: &Error) -> Option<Result<Document, CommandError>> {
    let answer = error.server_response()?.as_ref();
    if Document::try_from(answer).is_ok() {
        return None;
    }
    let Utf8Lossy(answer) = Utf8Lossy::<Document>::try_from(answer).ok()?;
    match response::known_number(&answer, "ok")? {
        1 => Some(Ok(answer)),
        _ => Some(Err(response::error_named_in(&answer))),
    }
}

/// Translates an error of the driver, which can quote documents.
fn command_error(error: &Error) -> CommandError {
    match error.kind.as_ref() {
        ErrorKind::Command(rejected) => CommandError::Command {
            code: rejected.code,
            name: rejected.code_name.clone(),
            message: rejected.message.clone(),
            is_transient: error.contains_label("RetryableWriteError"),
        },
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => CommandError::TimedOut,
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => CommandError::Unreachable(io.to_string()),
        ErrorKind::Io(io) => CommandError::Closed(io.to_string()),
        ErrorKind::Bson(_) | ErrorKind::BsonDeserialization(_) | ErrorKind::InvalidResponse { .. } => {
            CommandError::Unreadable("the answer of the server cannot be read".to_owned())
        }
        // A server that is shutting down rejects every login too, with its own error.
        ErrorKind::Authentication { message, .. } => {
            let source = std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<Box<Error>>())
                .map(|source| command_error(source));
            let is_transient = |error: &CommandError| matches!(response::whole(error), Outcome::Retry(_));
            source.filter(is_transient).unwrap_or_else(|| CommandError::Login(message.clone()))
        }
        kind => CommandError::Unreachable(kind.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_ask_for_something_else_are_named() {
        assert_eq!(unused_options("mongodb://a,b/d?w=1&replicaSet=rs&readPreference=secondary"), ["w", "readPreference"]);
        assert_eq!(unused_options("mongodb://a/?retryWrites=true&w=majority"), [""; 0]);
        assert_eq!(unused_options("mongodb://u:p@a"), [""; 0]);
    }
}
