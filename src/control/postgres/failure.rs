//! What a failure of the database means: for who has asked, and for the connection.

use std::error::Error as _;

use postgres::error::{Error, SqlState};

use crate::control::ControlError;

/// Why something that was asked of the database was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The library or the server says so.
    Sql(Error),
    /// We do: what was asked makes no sense, or what is stored does not.
    Ours(ControlError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Sql(error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Failure {
        Failure::Ours(error)
    }
}

impl Failure {
    /// Why the connection is of no further use; none where it is.
    pub(super) fn breaks(&self) -> Option<String> {
        match self {
            Failure::Ours(_) => None,
            Failure::Sql(error) => breaks(error).then(|| text(error)),
        }
    }

    /// What to tell who has asked.
    pub(super) fn told(self) -> ControlError {
        match self {
            Failure::Ours(error) => error,
            Failure::Sql(error) if is_passing(&error) => ControlError::Unavailable(text(&error)),
            Failure::Sql(error) => ControlError::Backend(text(&error)),
        }
    }
}

/// Whether the session is over, or is one that can not write.
fn breaks(error: &Error) -> bool {
    let Some(db) = error.as_db_error() else {
        // Not said by the server: the connection ended, or what came over it made no sense.
        return true;
    };
    let code = db.code();
    matches!(db.severity(), "FATAL" | "PANIC")
        || code.code().starts_with("08")
        || *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        // It has become a copy of another server.
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether the same may succeed a little later, without anybody having mended anything here.
pub(super) fn is_passing(error: &Error) -> bool {
    let Some(code) = error.code() else {
        return !is_refusal(error);
    };
    let class = code.code().get(..2).unwrap_or_default();
    // Connections; resources of the server; shutdowns, and statements that took too long.
    matches!(class, "08" | "53" | "57")
        || *code == SqlState::LOCK_NOT_AVAILABLE
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether TLS was refused for what it is, by us or by the server: a certificate does not become
/// valid by waiting.
fn is_refusal(error: &Error) -> bool {
    if !error.to_string().contains("TLS handshake") {
        return matches!(
            error.to_string().as_str(),
            "authentication error" | "invalid configuration"
        );
    }
    let Some(cause) = error.source() else {
        return true;
    };
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) => io
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>()),
        // The library's own words: the server speaks no TLS, or there is no name to verify.
        None => true,
    }
}

/// The whole story of an error on one line. It never has a password in it: the server does not know
/// the one it was to be given, and the library does not say it.
pub(super) fn text(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if is_refusal(error) && text.contains("TLS") {
        text.push_str(
            "; sslmode=disable in DATABASE_URL is for a server on a network that is yours alone, \
             RELAY_EXTRA_CA_FILE for one with a certificate of your own",
        );
    }
    text
}
