//! The judges of the way to the server, by what they are told.

use std::time::{Duration, UNIX_EPOCH};

use super::super::Level;
use super::*;
use crate::push::Settings;

const DAY_S: u64 = 86_400;

fn target() -> Target {
    Target::parse("https://music.example").unwrap()
}

fn status(status: u16, words: &str) -> Finding {
    judge_reply(&target(), &Reply::Status { status, retry_after: None, words: words.to_owned() }, false)
}

#[test]
fn each_step_that_fails_has_its_name_and_its_mend() {
    for (step, name, word) in [
        (Step::Setup, "server_setup", "server.ca_file"),
        (Step::Name, "dns", "online"),
        (Step::Tcp, "tcp", "(443)"),
        (Step::Tunnel, "proxy", "server.proxy"),
        (Step::Tls, "tls", "TLS"),
    ] {
        let way = Way { stopped: Some((step, "no".to_owned())), ..Way::default() };
        let found = &judge_way(&target(), &way, 0)[0];
        assert_eq!((found.name, found.level), (name, Level::Wrong));
        assert!(found.mend.as_ref().unwrap().contains(word), "{found:?}");
    }
    let proxied = Way { stopped: Some((Step::Tcp, "no".to_owned())), proxy: Some("p:1".into()), ..Way::default() };
    let found = judge_way(&target(), &proxied, 0);
    assert!(found[0].mend.as_ref().unwrap().contains("the proxy runs"));
    // It is the proxy's name that is looked up then, and no address in WaveFlow's settings mends it.
    let unknown = Way { stopped: Some((Step::Name, "no".to_owned())), ..proxied };
    let found = judge_way(&target(), &unknown, 0);
    let mend = found[0].mend.as_ref().unwrap();
    assert!(mend.contains("server.proxy") && !mend.contains("WaveFlow's settings"), "{mend}");
    assert!(found[1].words.ends_with("through p:1"));
}

#[test]
fn a_bad_certificate_has_the_mend_for_what_is_bad_about_it() {
    for (words, mend) in [
        ("the certificate of h is from an unknown issuer (if it is your own, set server.ca_file)", "server.ca_file"),
        ("the certificate of h has expired", "renew"),
        ("the certificate is not valid for h", "the name the certificate is for"),
        ("the certificate of h is not valid yet (is this machine's clock right?)", "timedatectl"),
        ("this machine has no root certificates: install them, or set server.ca_file", "ca-certificates"),
        ("h does not speak TLS on this port (perhaps http:// is meant)", "http://"),
    ] {
        assert!(tls_mend(words).contains(mend), "{words}: {}", tls_mend(words));
    }
}

#[test]
fn a_certificate_that_ends_soon_is_told_of() {
    let way = |days| Way { taken: vec![Step::Tls], expires: Some(1000 * DAY_S + days * DAY_S), ..Way::default() };
    let now = i64::try_from(1000 * DAY_S * 1000).unwrap();
    let (near, far) = (judge_way(&target(), &way(3), now), judge_way(&target(), &way(60), now));
    assert_eq!((near[0].level, far[0].level), (Level::Notice, Level::Fine));
    assert!(near[0].words.ends_with("for 3 days") && far[0].words.ends_with("for 60 days"), "{near:?}");
    assert_eq!(certificate(None, now).level, Level::Fine);
}

#[test]
fn an_address_without_encryption_is_told_of_unless_it_is_this_machine() {
    let found = |url: &str, require_tls| {
        let target = Target::parse(url).unwrap();
        let client = Client::new(target.clone(), Settings::default()).unwrap();
        judge_scheme(&target, &client, require_tls).level
    };
    assert_eq!(found("http://music.example", false), Level::Notice);
    assert_eq!(found("http://music.example", true), Level::Wrong);
    assert_eq!(found("http://127.0.0.1:8080", true), Level::Fine);
}

#[test]
fn an_answer_tells_a_server_from_what_stands_in_its_place() {
    assert_eq!(judge_reply(&target(), &Reply::Accepted(Vec::new()), false).level, Level::Fine);
    assert_eq!(status(401, "").level, Level::Fine);
    for (code, words, mend) in [
        (200, "an HTML page, “Welcome”", "login page"),
        (302, "redirects to http://login.example/", "login page"),
        (404, "not found", "path included"),
        (407, "", "password"),
        (429, "", "wait"),
        (500, "insert failed", "log"),
        (502, "an HTML page", "behind that web server"),
    ] {
        let found = status(code, words);
        assert_eq!(found.level, Level::Wrong, "{code}");
        assert!(found.mend.as_ref().unwrap().contains(mend), "{code}: {found:?}");
    }
    for kind in [FailedKind::Refused, FailedKind::Timeout, FailedKind::NotHttp] {
        assert_eq!(judge_reply(&target(), &Reply::Failed { kind, words: "no".into() }, false).level, Level::Wrong);
    }
}

#[test]
fn the_best_that_was_heard_counts() {
    let of = |status| Reply::Status { status, retry_after: None, words: String::new() };
    let failed = Reply::Failed { kind: FailedKind::Network, words: String::new() };
    let ranks = [Reply::Accepted(Vec::new()), of(401), of(500), failed].map(|reply| rank(&reply));
    assert!(ranks.is_sorted() && ranks[0] < ranks[3], "{ranks:?}");
    assert!(not_asked(true).words.contains("nobody is signed in"));
}

#[test]
fn clocks_that_are_over_two_minutes_apart_are_told_of_in_either_direction() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let found = |ours, theirs| judge_clocks(Clocks { theirs: at(theirs), ours: at(ours) });
    for (ours, theirs) in [(1000, 1000), (1120, 1000), (1000, 1120)] {
        assert_eq!(found(ours, theirs).level, Level::Fine);
    }
    assert!(found(1121, 1000).words.contains("2 minutes ahead of"));
    assert!(found(1000, 8200).words.contains("2 hours behind"));
}

#[test]
fn an_address_that_cannot_be_used_says_where_it_is_entered() {
    assert_eq!(no_url("the server URL has no host", true).exit, Exit::Config);
    let from_app = no_url("the server URL has no host", false);
    assert!(from_app.exit == Exit::TryLater && from_app.mend.unwrap().contains("WaveFlow's settings"));
    assert!(no_address().mend.unwrap().contains("server.url"));
}
