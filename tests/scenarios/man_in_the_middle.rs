//! Somebody between the agent and its server, who gives himself for one or the other: he never hears the token, and
//! nothing leaves the queue for him.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::data_dir::{Generation, Pending, Profile};
use testkit::interceptor::{Disguise, Interceptor};
use testkit::ops::NewOp;
use testkit::server::{Fault, Leaf, Reply, Server, Version};
use testkit::token;

use crate::common::daemon::{Daemon, eventually};
use crate::common::{Stage, assert_delivered};

/// Tries of the daemon that are waited for.
const TRIES: usize = 4;

struct Case {
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
    queued: Vec<Pending>,
}

impl Case {
    /// An install whose server is said to be at `url`, and that trusts the authorities in `pem` besides the system's.
    fn new(url: &str, pem: &str, server: &str) -> Self {
        let stage = Stage::new(Generation::Three);
        stage.dir.set_server_url(Some(url)).unwrap();
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(5);
        profile.enqueue(&ops).unwrap();
        let trusted = if pem.is_empty() { "" } else { "ca_file = \"ca.pem\"\n" };
        stage.configure_more(&format!("[server]\n{trusted}{server}"));
        fs::write(stage.config_path().with_file_name("ca.pem"), pem).unwrap();
        let queued = profile.pending().unwrap();
        Self { stage, profile, ops, queued }
    }

    /// Every row is there as it was queued, but for the marks that say why it still waits.
    #[track_caller]
    fn nothing_left(&self) {
        let unmarked = |row: &Pending| (row.operation_id.clone(), row.stamp);
        let rows: Vec<_> = self.profile.pending().unwrap().iter().map(unmarked).collect();
        assert_eq!(rows, self.queued.iter().map(unmarked).collect::<Vec<_>>());
        assert_eq!(self.stage.quarantined().len(), 0);
    }

    /// Tries with `once`, and then with the daemon until `tries` counts a few more; fails unless the trouble is of
    /// `kind`, its words hold `word`, and nothing leaves the queue.
    #[track_caller]
    fn refused(&self, kind: &str, word: &str, tries: impl Fn() -> usize) {
        let run = self.stage.once("500ms").ended_with(75);
        assert_eq!((run.kind(), &run.json["sent"]), (kind, &json!(0)), "{run:?}");
        assert!(run.message().contains(word), "no “{word}” in “{}”", run.message());
        self.nothing_left();
        let before = tries();
        let mut daemon = Daemon::start(&self.stage);
        eventually("the daemon tries a few times", || tries() >= before + TRIES);
        daemon.wait_for_state(self.profile.id, "backing_off");
        assert_eq!(daemon.profile(self.profile.id)["last_error"]["kind"], kind);
        daemon.stop();
        self.nothing_left();
    }
}

/// What of the token must not be heard: all of it, each of its parts, and what either looks like encoded once more.
fn secrets() -> Vec<String> {
    let token = token::for_user("alice");
    let mut secrets: Vec<String> = token.split('.').map(str::to_owned).collect();
    secrets.push(token);
    let encoded: Vec<String> = secrets.iter().map(|secret| STANDARD.encode(secret)).collect();
    // Padding depends on what follows.
    secrets.extend(encoded.iter().map(|secret| secret.trim_end_matches('=').to_owned()));
    secrets
}

/// Whether he heard anything of the token, in the clear or by decrypting.
fn heard_the_token(interceptor: &Interceptor) -> bool {
    let heard = [interceptor.heard(), interceptor.decrypted()];
    let holds =
        |secret: &String| heard.iter().any(|heard| heard.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    secrets().iter().any(holds)
}

/// He waits where the server should be, or the proxy.
#[track_caller]
fn comes_to_nothing(disguise: Disguise, trusted: bool, word: &str) {
    let (proxy, interceptor) = (matches!(disguise, Disguise::Proxy(_)), Interceptor::start(disguise).unwrap());
    let pem = if trusted { interceptor.ca_pem() } else { "" };
    let case = if proxy {
        let server = Server::builder(Version::Later).tls(Leaf::Good).start().unwrap();
        let pem = format!("{pem}{}", server.ca_pem().unwrap());
        Case::new(&server.url(), &pem, &format!("proxy = {:?}\n", interceptor.url()))
    } else {
        Case::new(&interceptor.url(), pem, "")
    };
    case.refused("tls", word, || interceptor.connections());
    assert!(!interceptor.heard().is_empty(), "nothing came to him at all");
    assert_eq!(interceptor.decrypted(), b"", "something was said to him");
    assert!(!heard_the_token(&interceptor));
}

#[test]
fn who_is_trusted_does_hear_the_token() {
    // Else none of the others could fail.
    let in_the_clear = Interceptor::start(Disguise::Plain(Reply::proxy(502))).unwrap();
    let case = Case::new(&format!("http://{}", in_the_clear.address()), "", "");
    case.stage.once("0").ended_with(75);
    assert!(heard_the_token(&in_the_clear) && in_the_clear.decrypted().is_empty());
    let trusted = Interceptor::start(Disguise::Tls(Leaf::Good)).unwrap();
    let case = Case::new(&trusted.url(), trusted.ca_pem(), "request_timeout = \"1s\"\n");
    case.stage.once("0").ended_with(75);
    assert!(heard_the_token(&trusted) && !trusted.decrypted().is_empty());
}

#[test]
fn a_certificate_signed_by_itself_is_not_believed() {
    for trusted in [false, true] {
        comes_to_nothing(Disguise::Tls(Leaf::SelfSigned), trusted, "the certificate of 127.0.0.1");
    }
}

#[test]
fn a_certificate_of_an_authority_nobody_knows_is_not_believed() {
    comes_to_nothing(Disguise::Tls(Leaf::Good), false, "unknown issuer");
}

#[test]
fn a_certificate_of_a_known_authority_for_another_time_or_name_is_not_believed() {
    comes_to_nothing(Disguise::Tls(Leaf::Expired), true, "expired");
    comes_to_nothing(Disguise::Tls(Leaf::WrongName), true, "not valid for 127.0.0.1");
}

#[test]
fn an_answer_in_the_clear_where_tls_is_expected_is_not_believed() {
    let accepted = Reply::json(200, &json!({"accepted": []}));
    for reply in [accepted, Reply::captive_portal(), Reply::login_redirect()] {
        comes_to_nothing(Disguise::Plain(reply), true, "does not speak TLS");
    }
}

#[test]
fn a_proxy_that_grants_the_tunnel_and_sits_in_it_himself_is_not_believed() {
    // Under the name of the real server's authority.
    comes_to_nothing(Disguise::Proxy(Leaf::Good), false, "wrong signature");
    comes_to_nothing(Disguise::Proxy(Leaf::SelfSigned), true, "the certificate of 127.0.0.1");
    comes_to_nothing(Disguise::Proxy(Leaf::Expired), true, "expired");
}

#[test]
fn a_redirect_from_the_real_server_is_not_followed_to_anywhere() {
    let server = Server::builder(Version::Later).tls(Leaf::Good).start().unwrap();
    for status in [301, 302, 303, 307, 308] {
        for (scheme, disguise) in
            [("http", Disguise::Plain(Reply::captive_portal())), ("https", Disguise::Tls(Leaf::Good))]
        {
            // Even one whose certificate is good.
            let elsewhere = Interceptor::start(disguise).unwrap();
            let location = format!("{scheme}://{}/api/v1/sync/push", elsewhere.address());
            let pem = format!("{}{}", server.ca_pem().unwrap(), elsewhere.ca_pem());
            server.always(Fault::Answer(Reply::new(status).header("Location", &location)));
            let case = Case::new(&server.url(), &pem, "");
            let requests = || usize::try_from(server.stats().requests).unwrap();
            case.refused("not_the_server", &elsewhere.address().to_string(), requests);
            assert_eq!((elsewhere.connections(), elsewhere.heard().len()), (0, 0), "{status} to {scheme}");
            server.clear_faults();
            case.stage.once("10s").ended_with(0);
            assert_delivered(&server, &case.ops);
        }
    }
}
