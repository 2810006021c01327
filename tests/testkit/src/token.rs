//! Tokens that look like the app's, and what the server reads out of them.
//!
//! What must always hold: a token made here has three parts and a payload with `iss`, `sub` and `exp`; anything that
//! lacks one of these is refused. Signatures are made up: this server trusts whoever says who he is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Seconds after `exp` for which the server still takes a token (contract, section 3).
pub const LEEWAY_S: i64 = 60;

/// Issuer of [`for_user`].
pub const ISSUER: &str = "https://auth.waveflow.example";

/// `exp` of [`for_user`]: the year 2100.
const FAR_AWAY_S: i64 = 4_102_444_800;

/// A token for `user` given out by `issuer`, good until `exp` (seconds since the epoch).
pub fn jwt(user: &str, issuer: &str, exp: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = serde_json::json!({ "iss": issuer, "sub": user, "exp": exp }).to_string();
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signature = URL_SAFE_NO_PAD.encode("nobody checks this");
    format!("{header}.{payload}.{signature}")
}

/// A token for `user` that outlives every test.
pub fn for_user(user: &str) -> String {
    jwt(user, ISSUER, FAR_AWAY_S)
}

/// A token for `user` that is an hour too old.
pub fn expired(user: &str) -> String {
    jwt(user, ISSUER, crate::time::now_s() - 3600)
}

/// The part of the payload the server looks at.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: i64,
}

/// Whose token this is; `None` where it is garbage or expired at `now` (seconds since the epoch).
pub fn user_of(token: &str, now: i64) -> Option<String> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    (claims.exp >= now.saturating_sub(LEEWAY_S)).then_some(claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_user_until_a_minute_after_it_expired() {
        let token = jwt("zoë", ISSUER, 1000);
        assert_eq!(user_of(&token, 1000 + LEEWAY_S).as_deref(), Some("zoë"));
        assert_eq!(user_of(&token, 1001 + LEEWAY_S), None);
        assert_eq!(user_of(&expired("zoë"), crate::time::now_s()), None);
    }

    #[test]
    fn anything_else_is_nobodys() {
        let no_subject = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(r#"{"iss":"i","exp":9999999999}"#));
        for garbage in ["", "garbage", "a.b.c", "a.b", &no_subject, &format!("{}.x", for_user("alice"))] {
            assert_eq!(user_of(garbage, 0), None, "{garbage}");
        }
    }
}
