//! Who is signed in to a profile, and whether the user wants it synced.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::drain::action::StoreError;
use crate::drain::guard::{Account, Credential};
use crate::queue::columns::has_table;
use crate::queue::database::InDatabase;
use crate::token::Token;

/// The provider under which the app keeps the server's token (contract, section 2).
const PROVIDER: &str = "waveflow_server";
/// A JWT's payload has a few hundred bytes; what is longer is not decoded.
const CLAIMS_MAX: usize = 16 << 10;

/// A token, and when the row that holds it was made and changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The bearer token.
    pub token: Token,
    /// Whose it is.
    pub credential: Credential,
}

/// The signed-in user, read from `data.db`. `None`: no row, blank bytes, or bytes that are no text.
pub fn signed_in(connection: &Connection) -> Result<Option<SignedIn>, StoreError> {
    if !has_table(connection, "auth_credential")? {
        return Ok(None);
    }
    let found = connection
        .prepare_cached(
            "SELECT CAST(token_encrypted AS BLOB), created_at, updated_at FROM auth_credential WHERE provider = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([PROVIDER], |row| Ok((row.get::<_, Vec<u8>>(0).map(Zeroizing::new), row.get(1), row.get(2))))
                .optional()
        })
        .on(connection)?;
    Ok(found.and_then(|(bytes, created_at, updated_at)| {
        let token = Token::new(std::str::from_utf8(&bytes.ok()?).ok()?)?;
        let account = account(&token);
        // A time that is no integer proves nothing: as new as can be.
        let credential = Credential {
            account,
            created_at: created_at.unwrap_or(i64::MAX),
            updated_at: updated_at.unwrap_or(i64::MAX),
        };
        Some(SignedIn { token, credential })
    }))
}

/// Whether `sync.mode` says `local`; anything else, or nothing, means sync.
pub fn is_local(connection: &Connection) -> Result<bool, StoreError> {
    if !has_table(connection, "profile_setting")? {
        return Ok(false);
    }
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM profile_setting WHERE key = 'sync.mode' AND value = 'local')")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .on(connection)
}

/// Issuer and subject of a JWT; `None` where the token is none, or names nobody. The signature is the server's business.
pub fn account(token: &Token) -> Option<Account> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        iss: Option<String>,
        sub: Name,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Number(i64),
    }
    let claims: Claims = serde_json::from_slice(&claims(token)?).ok()?;
    let subject = match claims.sub {
        Name::Text(text) => text,
        Name::Number(number) => number.to_string(),
    };
    Some(Account { issuer: claims.iss.unwrap_or_default(), subject })
}

/// Until when a JWT is good, in seconds since the epoch; `None` where the token is none, or does not say.
pub fn expires(token: &Token) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    serde_json::from_slice::<Claims>(&claims(token)?).ok().map(|claims| claims.exp)
}

/// A JWT's middle part, which is JSON.
fn claims(token: &Token) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = token.expose().split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    if claims.len() > CLAIMS_MAX {
        return None;
    }
    Some(Zeroizing::new(URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Token {
        Token::new(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))).unwrap()
    }

    #[test]
    fn a_jwt_names_issuer_and_subject() {
        let named = account(&token(r#"{"iss":"i","sub":"s","exp":1}"#)).unwrap();
        assert_eq!((named.issuer.as_str(), named.subject.as_str()), ("i", "s"));
        assert_eq!(expires(&token(r#"{"iss":"i","sub":"s","exp":1}"#)), Some(1));
        assert_eq!(expires(&token(r#"{"sub":"s"}"#)), None);
        assert_eq!(account(&token(r#"{"sub":7}"#)).unwrap(), Account { issuer: String::new(), subject: "7".into() });
    }

    #[test]
    fn what_is_no_jwt_names_nobody() {
        for text in ["opaque", "a.b", "a.b.c", "a.b.c.d", "..", "e30.e30.e30", "a.!!!.c"] {
            assert_eq!(account(&Token::new(text).unwrap()), None, "{text}");
        }
        assert_eq!(account(&token(r#"{"iss":"only"}"#)), None);
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE auth_credential (provider TEXT PRIMARY KEY, username TEXT, token_encrypted BLOB NOT NULL,
                 refresh_token_encrypted BLOB, expires_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
                 CREATE TABLE profile_setting (key TEXT PRIMARY KEY, value TEXT, value_type TEXT, updated_at INTEGER);",
            )
            .unwrap();
        connection
    }

    #[test]
    fn no_row_and_blank_bytes_mean_signed_out() {
        let connection = database();
        assert_eq!(signed_in(&connection).unwrap(), None);
        for bytes in [&b""[..], b" \n", b"\xff\xfe"] {
            connection
                .execute(
                    "INSERT OR REPLACE INTO auth_credential VALUES ('waveflow_server', NULL, ?1, NULL, NULL, 1, 2)",
                    [bytes],
                )
                .unwrap();
            assert_eq!(signed_in(&connection).unwrap(), None);
        }
        connection.execute("UPDATE auth_credential SET token_encrypted = 'opaque'", []).unwrap();
        let found = signed_in(&connection).unwrap().unwrap();
        assert_eq!(found.token.expose(), "opaque");
        assert_eq!(found.credential, Credential { account: None, created_at: 1, updated_at: 2 });
        assert_eq!(signed_in(&Connection::open_in_memory().unwrap()).unwrap(), None);
    }

    #[test]
    fn only_the_word_local_keeps_everything_local() {
        let connection = database();
        assert!(!is_local(&connection).unwrap());
        for (mode, local) in [("local", true), ("hybrid", false), ("LOCAL", false), ("", false), ("else", false)] {
            connection
                .execute("INSERT OR REPLACE INTO profile_setting VALUES ('sync.mode', ?1, 'string', 0)", [mode])
                .unwrap();
            assert_eq!(is_local(&connection).unwrap(), local, "{mode}");
        }
    }
}
