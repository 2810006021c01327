//! What the way to the server and its answer mean.

use super::Finding;
use super::finding::span;
use crate::exit::Exit;
use crate::op::{FailedKind, Reply};
use crate::push::probe::{Step, Way};
use crate::push::{Client, Clocks, Target};
use crate::status::timestamp;

/// A certificate that ends sooner should have been renewed by whatever renews it.
const EXPIRY_NEAR: u64 = 14 * 86_400;
/// Tokens and certificates are believed or not by these clocks; a server lets a minute pass.
const CLOCKS_APART: u64 = 120;
const SERVER: &str = "server";

pub(super) fn no_address() -> Finding {
    let mend = "enter its address in WaveFlow's settings, or as server.url in the configuration";
    Finding::wrong("server_url", "no server is known", mend)
}

pub(super) fn no_url(why: &str, configured: bool) -> Finding {
    let exit = if configured { Exit::Config } else { Exit::TryLater };
    let place = if configured { "as server.url in the configuration" } else { "in WaveFlow's settings" };
    let mend = format!("correct the address {place}; it looks like https://music.example");
    Finding::wrong("server_url", why, &mend).ends_with(exit)
}

pub(super) fn judge_setup(why: &str) -> Finding {
    let mend = "correct server.proxy or server.ca_file in the configuration, or HTTPS_PROXY and its like";
    Finding::wrong("server_setup", why, mend).ends_with(Exit::Config)
}

pub(super) fn judge_scheme(target: &Target, client: &Client, require_tls: bool) -> Finding {
    let words = target.to_string();
    if !client.is_exposed() {
        return Finding::fine("server_url", &words);
    }
    let words = format!("{words} is not encrypted: everybody on the way can read the token and all that is synced");
    let mend = "enter an address with https:// in WaveFlow's settings";
    Finding::wrong_if(require_tls, "server_url", &words, mend)
}

/// Each step that was taken, and the one that failed. `now` in ms.
pub(super) fn judge_way(target: &Target, way: &Way, now: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some((step, words)) = &way.stopped {
        found.push(stopped(target, *step, words, way.proxy.is_some()));
    }
    if let Some(proxy) = &way.proxy {
        found.push(Finding::fine("proxy", &format!("the way to {target} is through {proxy}")));
    }
    for step in &way.taken {
        match step {
            Step::Setup | Step::Tunnel => {}
            Step::Name => found.extend(way.addresses.map(|count| {
                let es = if count == 1 { "" } else { "es" };
                Finding::fine("dns", &format!("{count} address{es} found"))
            })),
            Step::Tcp => found.push(Finding::fine(
                "tcp",
                &format!("connects to {}", way.proxy.as_ref().unwrap_or(&target.host_port())),
            )),
            Step::Tls => found.push(certificate(way.expires, now)),
        }
    }
    found
}

fn stopped(target: &Target, step: Step, words: &str, proxied: bool) -> Finding {
    let port = target.port();
    match step {
        Step::Setup => judge_setup(words),
        Step::Name if proxied => {
            let mend = "see that the proxy's address (server.proxy, or HTTPS_PROXY and its like) is right, and that this \
                        machine is online";
            Finding::wrong("dns", words, mend)
        }
        Step::Name => {
            let mend = "see that the address in WaveFlow's settings is right, and that this machine is online";
            Finding::wrong("dns", words, mend)
        }
        Step::Tcp if proxied => {
            Finding::wrong("tcp", words, "see that the proxy runs, or correct server.proxy or HTTPS_PROXY and its like")
        }
        Step::Tcp => {
            let mend = format!(
                "see that the server runs, that the address in WaveFlow's settings and its port ({port}) are right, and \
                 that no firewall is in between; the agent goes on trying"
            );
            Finding::wrong("tcp", words, &mend)
        }
        Step::Tunnel => {
            Finding::wrong("proxy", words, "see that the proxy lets you through, or name another as server.proxy")
        }
        Step::Tls => Finding::wrong("tls", words, tls_mend(words)),
    }
}

/// By the words of [`crate::push`], which are for people and have the first half of it.
fn tls_mend(words: &str) -> &'static str {
    if words.contains("unknown issuer") || words.contains("wrong signature") {
        "put the authority's certificate (PEM) into a file and name it as server.ca_file in the configuration; if this \
         network is not yours, somebody may be listening"
    } else if words.contains("has expired") {
        "renew the certificate on the server; see that this machine's clock is right"
    } else if words.contains("not valid for") {
        "use the name the certificate is for in WaveFlow's settings, or give the server one for this name"
    } else if words.contains("not valid yet") {
        "set this machine's clock (`timedatectl set-ntp true`)"
    } else if words.contains("no root certificates") {
        "install them (Debian: ca-certificates), or name the server's authority as server.ca_file in the configuration"
    } else if words.contains("does not speak TLS") {
        "enter the address with http:// if that is what the server speaks, or the right port"
    } else {
        "see the server's TLS settings"
    }
}

fn certificate(expires: Option<u64>, now: i64) -> Finding {
    let Some(expires) = expires else {
        return Finding::fine("tls", "the certificate is good");
    };
    let left = expires.saturating_sub(u64::try_from(now / 1000).unwrap_or(0));
    let until = timestamp(i64::try_from(expires).unwrap_or(0).saturating_mul(1000));
    let words = format!("the certificate is good until {until}, for {}", span(left));
    if left < EXPIRY_NEAR {
        Finding::notice("tls", &words, "renew it on the server, and see why nothing has done so by itself")
    } else {
        Finding::fine("tls", &words)
    }
}

/// How much an answer says for the server; the least is the best.
pub(super) fn rank(reply: &Reply) -> u8 {
    match reply {
        Reply::Accepted(_) => 0,
        Reply::Status { status: 401 | 403, .. } => 1,
        Reply::Failed { .. } => 3,
        _ => 2,
    }
}

pub(super) fn not_asked(nobody: bool) -> Finding {
    let words = if nobody {
        "it was not asked, since nobody is signed in whose token could be sent"
    } else {
        "it was not asked in time"
    };
    Finding::notice(SERVER, words, "sign in from WaveFlow's settings, and ask again")
}

pub(super) fn judge_reply(target: &Target, reply: &Reply, proxied: bool) -> Finding {
    match reply {
        Reply::Accepted(_) => Finding::fine(SERVER, &format!("{target} is a waveflow-server, and takes batches")),
        // Told with the token.
        Reply::Status { status: 401 | 403, .. } => Finding::fine(SERVER, &format!("{target} answers")),
        Reply::Status { status, words, .. } => Finding::wrong(
            SERVER,
            &format!("{target} answered {status}: {words}"),
            status_mend(*status, words, proxied),
        ),
        Reply::Failed { kind: FailedKind::Refused, words } => {
            Finding::wrong(SERVER, words, "use https://, or paste the token again; see what is said there")
        }
        Reply::Failed { kind: FailedKind::Timeout, words } => {
            Finding::wrong(SERVER, words, "see whether the server is overloaded; the agent goes on trying")
        }
        Reply::Failed { words, .. } => {
            let mend = "see that the address in WaveFlow's settings leads to a waveflow-server, and that server's log";
            Finding::wrong(SERVER, words, mend)
        }
        Reply::Regression { .. } | Reply::PairRegression { .. } => {
            let words = format!("{target} finds a conflict in a batch without ops");
            Finding::wrong(SERVER, &words, "see that the address in WaveFlow's settings leads to a waveflow-server")
        }
    }
}

fn status_mend(status: u16, words: &str, proxied: bool) -> &'static str {
    match status {
        300..400 => {
            "if this network has a login page, open a browser and sign in there; else enter the address it leads to in \
             WaveFlow's settings: redirects are not followed"
        }
        200 if words.contains("HTML") => {
            "something else answers in the server's place: if this network has a login page, open a browser and sign in \
             there; else see that the address in WaveFlow's settings is right"
        }
        407 => "the proxy wants a name and a password: http://name:password@proxy as server.proxy in the configuration",
        429 => "wait; the agent does",
        502..=504 if proxied => "see that the proxy reaches the server; the agent goes on trying",
        502..=504 => "see that the waveflow-server behind that web server runs; the agent goes on trying",
        500..600 => "see the server's log, and its database; the agent goes on trying",
        _ => "see that the address in WaveFlow's settings, its path included, leads to a waveflow-server",
    }
}

pub(super) fn judge_clocks(clocks: Clocks) -> Finding {
    let (ahead, apart) = match clocks.ours.duration_since(clocks.theirs) {
        Ok(apart) => (true, apart.as_secs()),
        Err(error) => (false, error.duration().as_secs()),
    };
    if apart <= CLOCKS_APART {
        return Finding::fine("clock", "this machine and the server agree on the time");
    }
    let words =
        format!("this machine's clock is {} {} the server's", span(apart), if ahead { "ahead of" } else { "behind" });
    let mend =
        "have both set by the network (`timedatectl set-ntp true`): tokens and certificates are believed by them";
    Finding::notice("clock", &words, mend)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
