//! The one error type of the kit: whatever went wrong, said in words a failing test can show.

/// What a kit call can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The made-up app's files.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Files and sockets.
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
    /// Keys and certificates.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS side.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Something that should have been JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Anything else: what was asked cannot be done.
    #[error("{0}")]
    Other(String),
}

/// The extended code of `SQLITE_BUSY_SNAPSHOT`: somebody else committed between our read and our write.
const BUSY_SNAPSHOT: i32 = 517;

impl Error {
    /// An error made of words alone.
    pub fn other(words: impl Into<String>) -> Self {
        Self::Other(words.into())
    }

    /// Any kind of `SQLITE_BUSY`.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Database(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy))
    }

    /// `SQLITE_BUSY_SNAPSHOT`: the user's action failed because another process committed in between.
    pub fn is_busy_snapshot(&self) -> bool {
        match self {
            Self::Database(rusqlite::Error::SqliteFailure(code, _)) => code.extended_code == BUSY_SNAPSHOT,
            _ => false,
        }
    }
}

/// What every kit call returns.
pub type Result<T> = std::result::Result<T, Error>;
