//! A token: whose it is, until when it is good, and whether the server takes it. It is never shown.

use super::finding::span;
use super::{Finding, Ticket};
use crate::app::account;
use crate::drain::guard::Account;
use crate::op::Reply;
use crate::status::timestamp;

const NAME: &str = "token";
/// Nobody renews it but the user, who should have a few days for it.
const EXPIRY_NEAR_S: i64 = 7 * 86_400;
const MEND: &str = "sign in again from WaveFlow's settings, or paste a new token there";

/// What there is to know.
struct Facts<'a> {
    label: &'a str,
    account: Option<Account>,
    /// Seconds since the epoch.
    expires: Option<i64>,
    /// `None`: the server was not asked, or could not answer.
    taken: Option<bool>,
    /// ms since the epoch.
    now: i64,
}

pub(super) fn judge(ticket: &Ticket, reply: Option<&Reply>, now: i64) -> Finding {
    let taken = match reply {
        Some(Reply::Accepted(_)) => Some(true),
        Some(Reply::Status { status: 401 | 403, .. }) => Some(false),
        _ => None,
    };
    let (account, expires) = (account::account(&ticket.token), account::expires(&ticket.token));
    judged(&Facts { label: &ticket.label, account, expires, taken, now }).of(ticket.profile)
}

fn judged(facts: &Facts<'_>) -> Finding {
    let Facts { label, account, expires, taken, now } = facts;
    let whose = match account {
        Some(Account { issuer, subject }) if issuer.is_empty() => format!(" of {subject}"),
        Some(Account { issuer, subject }) => format!(" of {subject} at {issuer}"),
        None => String::new(),
    };
    let left = expires.map(|expires| expires.saturating_sub(now / 1000));
    let moment = timestamp(expires.unwrap_or(0).saturating_mul(1000));
    let refused = if *taken == Some(false) { ", and the server refuses it" } else { "" };
    match (left, taken) {
        // A server that takes it knows better than this machine's clock.
        (Some(left), Some(false) | None) if left < 0 => {
            let ago = span(left.unsigned_abs());
            Finding::wrong(NAME, &format!("{label}: the token{whose} expired {ago} ago, on {moment}{refused}"), MEND)
        }
        (_, Some(false)) if account.is_none() => {
            Finding::wrong(NAME, &format!("{label}: what was pasted as a token is none (no JWT){refused}"), MEND)
        }
        (_, Some(false)) => Finding::wrong(NAME, &format!("{label}: the server refuses the token{whose}"), MEND),
        _ if account.is_none() => {
            let words = format!("{label}: the token does not say whose it is: ops go out under it whoever queued them");
            Finding::notice(NAME, &words, MEND)
        }
        (Some(left), _) if left < 0 => {
            let words = format!("{label}: the token{whose} expired on {moment}, and the server still takes it");
            Finding::notice(NAME, &words, MEND)
        }
        (Some(left), _) if left < EXPIRY_NEAR_S => {
            let words = format!("{label}: the token{whose} expires on {moment}, in {}", span(left.unsigned_abs()));
            Finding::notice(NAME, &words, MEND)
        }
        (Some(_), _) => Finding::fine(NAME, &format!("{label}: the token{whose} is good until {moment}")),
        (None, _) => Finding::fine(NAME, &format!("{label}: the token{whose} does not say when it expires")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn found(named: bool, expires: Option<i64>, taken: Option<bool>) -> Finding {
        let account = named.then(|| Account { issuer: "i".into(), subject: "alice".into() });
        judged(&Facts { label: "profile 1", account, expires, taken, now: 10_000_000_000 })
    }

    #[test]
    fn an_expired_token_is_wrong_unless_the_server_takes_it() {
        let late = Some(10_000_000 - 7200);
        let refused = found(true, late, Some(false));
        assert!(refused.level == Level::Wrong && refused.words.contains("of alice at i expired 2 hours ago"));
        assert!(refused.words.ends_with("and the server refuses it"), "{refused:?}");
        assert_eq!(found(true, late, None).level, Level::Wrong);
        let taken = found(true, late, Some(true));
        assert!(taken.level == Level::Notice && taken.words.ends_with("still takes it"), "{taken:?}");
    }

    #[test]
    fn a_refused_token_is_wrong_whatever_it_says() {
        assert!(found(true, Some(20_000_000), Some(false)).words.contains("refuses the token of alice"));
        assert!(found(false, None, Some(false)).words.contains("no JWT"));
    }

    #[test]
    fn one_that_soon_expires_or_names_nobody_is_good_to_know() {
        let soon = found(true, Some(10_000_000 + 86_400), Some(true));
        assert!(soon.level == Level::Notice && soon.words.ends_with("in 1 day"), "{soon:?}");
        assert!(found(false, None, Some(true)).words.contains("whose it is"));
        for expires in [None, Some(20_000_000)] {
            assert_eq!(found(true, expires, Some(true)).level, Level::Fine);
        }
    }
}
