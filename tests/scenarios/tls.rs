//! https, with an authority of one's own and through a proxy.

use std::fs;

use testkit::data_dir::{Generation, Profile};
use testkit::http_proxy::Proxy;
use testkit::ops::NewOp;
use testkit::server::{Builder, Leaf, Server, TlsVersion, Version};
use testkit::token;

use crate::common::{Agent, Run, Stage, assert_delivered, command};

struct Case {
    server: Server,
    stage: Stage,
    profile: Profile,
    ops: Vec<NewOp>,
}

impl Case {
    fn new(leaf: Leaf) -> Self {
        Self::of(Server::builder(Version::Later).tls(leaf))
    }

    fn of(server: Builder) -> Self {
        let server = server.start().unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(5);
        profile.enqueue(&ops).unwrap();
        Self { server, stage, profile, ops }
    }

    /// Trusts the server's authority, and `more`.
    fn trust(&self, more: &str) {
        fs::write(self.stage.config_path().with_file_name("ca.pem"), self.server.ca_pem().unwrap()).unwrap();
        self.stage.configure_more(&format!("[server]\nca_file = \"ca.pem\"\n{more}"));
    }

    #[track_caller]
    fn refused(&self) -> Run {
        let run = self.stage.once("500ms").ended_with(75);
        assert_eq!(run.kind(), "tls", "{run:?}");
        assert_eq!((self.server.stats().requests, self.profile.pending_count().unwrap()), (0, 5));
        run
    }
}

#[test]
fn https_with_the_authority_in_ca_file_works() {
    let case = Case::new(Leaf::Good);
    case.trust("require_tls = true\n");
    case.stage.once("10s").ended_with(0);
    assert_delivered(&case.server, &case.ops);
}

#[test]
fn a_server_that_speaks_one_version_of_tls_only_is_served() {
    for version in [TlsVersion::Two, TlsVersion::Three] {
        let case = Case::of(Server::builder(Version::Later).tls(Leaf::Good).tls_only(version));
        case.trust("");
        case.stage.once("10s").ended_with(0);
        assert_delivered(&case.server, &case.ops);
    }
}

#[test]
fn https_without_the_authority_sends_nothing() {
    let case = Case::new(Leaf::Good);
    let run = case.refused();
    assert!(run.message().contains("127.0.0.1"), "{}", run.message());
}

#[test]
fn a_certificate_for_another_name_or_time_sends_nothing() {
    for leaf in [Leaf::WrongName, Leaf::Expired] {
        let case = Case::new(leaf);
        case.trust("");
        case.refused();
    }
}

#[test]
fn a_proxy_never_sees_the_token_on_its_way_to_https() {
    let case = Case::new(Leaf::Good);
    let proxy = Proxy::start().unwrap();
    case.trust(&format!("proxy = \"{}\"\n", proxy.url().replace("://", "://user:secret@")));
    let run = case.stage.once("10s").ended_with(0);
    assert_delivered(&case.server, &case.ops);
    let asked = proxy.asked();
    assert!(!asked.is_empty(), "it went through the proxy");
    for asked in asked {
        assert_eq!((asked.method.as_str(), asked.saw_authorization), ("CONNECT", false));
        assert_eq!(asked.target, case.server.address().to_string());
        assert_eq!(asked.proxy_authorization.as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
    }
    let printed = format!("{}{}", run.stdout, run.stderr);
    assert!(!printed.contains("secret") && !printed.contains(&token::for_user("alice")));
}

#[test]
fn the_environments_proxy_is_asked_for_hosts_elsewhere_and_not_for_this_machine() {
    let case = Case::new(Leaf::Good);
    case.trust("");
    let proxy = Proxy::start().unwrap();
    proxy.refuse_with(Some(502));
    let run = || {
        let mut command = command(case.stage.home());
        command.env("HTTPS_PROXY", proxy.url()).args(["--json", "once", "--wait", "0"]);
        Agent::start(&mut command).finish()
    };
    case.stage.dir.set_server_url(Some("https://elsewhere.example:8443")).unwrap();
    assert_eq!(run().ended_with(75).kind(), "network");
    let asked = proxy.asked();
    assert_eq!((asked.len(), asked[0].target.as_str()), (1, "elsewhere.example:8443"));
    assert!(!asked[0].saw_authorization);
    case.stage.dir.set_server_url(Some(&case.server.url())).unwrap();
    run().ended_with(0);
    assert_delivered(&case.server, &case.ops);
    assert_eq!(proxy.asked().len(), 1);
}

#[test]
fn a_proxy_that_refuses_is_told_and_nothing_goes() {
    let case = Case::new(Leaf::Good);
    let proxy = Proxy::start().unwrap();
    proxy.refuse_with(Some(407));
    case.trust(&format!("proxy = \"{}\"\n", proxy.url()));
    let run = case.stage.once("500ms").ended_with(75);
    assert_eq!(run.kind(), "network");
    assert!(run.message().contains("407"), "{}", run.message());
    assert_eq!((case.server.stats().requests, case.profile.pending_count().unwrap()), (0, 5));
}
