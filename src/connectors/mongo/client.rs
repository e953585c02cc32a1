//! The connection to a server, and commands with a deadline.

use std::time::Duration;

use mongodb::bson::{Bson as Value, Document, RawDocumentBuf};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Credential, ServerAddress, Tls, TlsOptions};
use tokio::time::Instant;

use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::diagnosis;
use crate::connectors::mongo::response::{self, CommandError, CommandVerdict};
use crate::pipeline::{ConnectorError, Failure, Outcome};
use crate::profile::MongoSection;

/// How long a command may take. Above what a majority is waited for, so that the server answers first.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a server is looked for, and a connection made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long is waited between two tries of the first contact.
const AGAIN: Duration = Duration::from_millis(250);

/// A server, or a set of them, of the MongoDB protocol.
#[derive(Clone)]
pub struct MongoClient {
    section: MongoSection,
    client: mongodb::Client,
    deadline: Duration,
}

impl MongoClient {
    /// Returns a client of `section` that may have so many commands under way, once a server has answered.
    ///
    /// # Errors
    /// When the section is wrong, or the server does not let us in, or none answers within `wait`.
    pub async fn connect(section: &MongoSection, commands: usize, wait: Duration) -> Result<Self, ConnectorError> {
        // A connection string can ask for names to be looked up, which takes its own time.
        let options = match tokio::time::timeout(wait.max(AGAIN), options(section, commands, wait)).await {
            Ok(options) => options.map_err(|error| said(&error)),
            Err(_) => Err(CommandError::Late),
        };
        let options = options.map_err(|failure| diagnosis::diagnose(section, &failure, wait))?;
        let client = mongodb::Client::with_options(options).map_err(|error| diagnosis::diagnose(section, &said(&error), wait))?;
        let client = Self { section: section.clone(), client, deadline: DEADLINE };
        let deadline = Instant::now() + wait;
        let mut told = CommandError::Late;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(failure) = client.ping(left.max(AGAIN)).await else { return Ok(client) };
            // The last try has little time, and may not come to know what the one before knew.
            if failure != CommandError::Late {
                told = failure;
            }
            if diagnosis::is_lasting(&told) || Instant::now() + AGAIN >= deadline {
                return Err(diagnosis::diagnose(section, &told, wait).into());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Returns the same client, with so long a time for each command.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Returns the name of the section.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.section.name
    }

    async fn ping(&self, within: Duration) -> Result<(), CommandError> {
        let mut out = Bson::default();
        let begun = out.begin();
        out.int32("ping", 1);
        out.end(begun);
        self.command("admin", out.bytes, within.min(DEADLINE)).await.map(drop)
    }

    /// Returns whether the collection is there.
    pub(super) async fn has(&self, database: &str, collection: &str) -> Result<bool, Failure> {
        let mut out = Bson::default();
        let command = out.begin();
        out.int32("listCollections", 1);
        let filter = out.begin_document("filter");
        out.text("name", collection);
        out.end(filter);
        out.boolean("nameOnly", true);
        out.boolean("authorizedCollections", true);
        out.end(command);
        let reply = self.write(database, out.bytes).await;
        let reply = reply.map_err(|failure| diagnosis::diagnose(&self.section, &failure, DEADLINE))?;
        let found = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        // Some servers pay no heed to the filter.
        let is_it =
            |found: &Value| found.as_document().is_some_and(|found| found.get_str("name").is_ok_and(|name| name == collection));
        Ok(found.is_ok_and(|found| found.iter().any(is_it)))
    }

    /// Counts the documents of a collection whose `field` is `value`.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn count(&self, database: &str, collection: &str, field: &str, value: i32) -> Result<i64, ConnectorError> {
        let mut out = Bson::default();
        let command = out.begin();
        out.text("count", collection);
        let query = out.begin_document("query");
        out.int32(field, value);
        out.end(query);
        out.end(command);
        let reply = self.write(database, out.bytes).await;
        let reply = reply.map_err(|failure| diagnosis::diagnose(&self.section, &failure, DEADLINE))?;
        Ok(response::number(&reply, "n").into())
    }

    /// Proves that documents of a collection can be written, and leaves none: changes a document that is not there.
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
            Some(error) => Err(CommandError::Command {
                code: response::number(&error, "code"),
                name: error.get_str("codeName").unwrap_or_default().to_owned(),
                message: error.get_str("errmsg").unwrap_or_default().to_owned(),
                passes: response::passes(&error),
            }),
        }
    }

    /// Returns the failure of a probe.
    pub(super) fn not_writable(&self, database: &str, collection: &str, failure: &CommandError) -> Failure {
        diagnosis::not_writable(&self.section, database, collection, failure)
    }

    /// Runs a command that writes or looks up, within the usual deadline.
    pub(super) async fn write(&self, database: &str, command: Vec<u8>) -> Result<Document, CommandError> {
        self.command(database, command, self.deadline).await
    }

    /// Runs a command on the primary and returns what it answered with `ok: 1`, which can hold errors all the same.
    async fn command(&self, database: &str, command: Vec<u8>, within: Duration) -> Result<Document, CommandError> {
        let command = RawDocumentBuf::from_bytes(command).expect("what was begun was ended");
        let database = self.client.database(database);
        let mut task = tokio::spawn(async move { database.run_raw_command(command).await });
        match tokio::time::timeout(within, &mut task).await {
            Err(_) => {
                // Its connection is closed with it. A host that is gone without a word would else hold on to both, and to the
                // command, for a quarter of an hour.
                task.abort();
                Err(CommandError::Late)
            }
            Ok(Err(error)) => Err(CommandError::Unreachable(format!("the client failed: {error}"))),
            Ok(Ok(Err(error))) => Err(said(&error)),
            Ok(Ok(Ok(reply))) => Ok(reply),
        }
    }
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
    // Before the first contact has taken too long, so that it can be told what was in its way.
    options.server_selection_timeout = Some(CONNECT.min(wait / 4 * 3).max(AGAIN));
    options.connect_timeout = Some(CONNECT);
    // One more than are written with: for the look whether others pass.
    options.max_pool_size = Some(u32::try_from(commands).unwrap_or(u32::MAX).saturating_add(2));
    Ok(options)
}

/// Returns what an error of the driver says, in our words. The error itself can quote what was sent.
fn said(error: &Error) -> CommandError {
    match error.kind.as_ref() {
        ErrorKind::Command(refusal) => CommandError::Command {
            code: refusal.code,
            name: refusal.code_name.clone(),
            message: refusal.message.clone(),
            passes: error.contains_label("RetryableWriteError"),
        },
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => CommandError::Late,
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => CommandError::Unreachable(io.to_string()),
        ErrorKind::Io(io) => CommandError::Closed(io.to_string()),
        // A server that is shutting down does not let anybody in either, but says why.
        ErrorKind::Authentication { message, .. } => {
            let refused = std::error::Error::source(error)
                .and_then(|source| source.downcast_ref::<Box<Error>>())
                .map(|source| said(source));
            let passes = |refused: &CommandError| matches!(response::whole(refused), CommandVerdict::Is(Outcome::Retry(_)));
            refused.filter(passes).unwrap_or_else(|| CommandError::Login(message.clone()))
        }
        kind => CommandError::Unreachable(kind.to_string()),
    }
}
