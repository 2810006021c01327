//! Every error a user can meet says what is wrong, where, and what to do about it.

use std::any::Any;
use std::fs;

use testkit::data_dir::Generation;
use testkit::ops::NewOp;
use testkit::server::{Fault, Leaf, Reply, Server, Version};

use crate::common::daemon::Daemon;
use crate::common::{Agent, Stage, command};

/// What the agent is told, and who has to be there meanwhile.
type Meeting = (Vec<String>, Option<Box<dyn Any>>);

/// A way to meet it.
struct Case {
    name: &'static str,
    /// Brings it about.
    meet: fn(&Stage, &Server) -> Meeting,
    /// What, where, and what to do: words that have to be there.
    says: [&'static str; 3],
}

/// What the agent is told.
fn words(line: &str) -> Meeting {
    (line.split(' ').map(str::to_owned).collect(), None)
}

/// The same, beside somebody.
fn beside(line: &str, who: impl Any) -> Meeting {
    (words(line).0, Some(Box::new(who)))
}

const CASES: [Case; 17] = [
    Case {
        name: "a configuration that cannot be read",
        meet: |stage, _| {
            fs::remove_file(stage.config_path()).unwrap();
            fs::create_dir(stage.config_path()).unwrap();
            words("check-config")
        },
        says: ["cannot read the configuration", "waveflow/sync-agent.toml", "irectory"],
    },
    Case {
        name: "a configuration that is no TOML",
        meet: |stage, _| {
            stage.configure("[drain\n");
            words("check-config")
        },
        says: ["sync-agent.toml:1", "unclosed table", "expected `]`"],
    },
    Case {
        name: "a key nobody knows",
        meet: |stage, _| {
            stage.configure("[drain]\nintervall = \"1s\"\n");
            words("check-config")
        },
        says: ["unknown key", "sync-agent.toml:2", "did you mean `drain.interval`"],
    },
    Case {
        name: "a value that cannot be",
        meet: |stage, _| {
            stage.configure("[drain]\nbatch_ops = 5000\n");
            words("check-config")
        },
        says: ["`drain.batch_ops` cannot be 5000", "sync-agent.toml:2", "allowed: "],
    },
    Case {
        name: "a socket's path that is too long",
        meet: |_, _| words(&format!("--socket /{} status", "s".repeat(120))),
        says: ["121 bytes long", "--socket", "set a shorter one"],
    },
    Case {
        name: "no app",
        meet: |_, _| words("--data-dir /nowhere once --wait 0"),
        says: ["app's data is not there", "/nowhere", "start WaveFlow once"],
    },
    Case {
        name: "no daemon",
        meet: |_, _| words("drain now"),
        says: ["no agent is running", "waveflow/sync-agent.sock", "start one with"],
    },
    Case {
        name: "a file in the place of the state",
        meet: |stage, _| {
            fs::create_dir_all(stage.home().join("state/waveflow")).unwrap();
            fs::write(stage.home().join("state/waveflow/sync-agent"), "").unwrap();
            words("once --wait 0")
        },
        says: ["is not a directory", "state/waveflow/sync-agent", "set `state_dir`"],
    },
    Case {
        name: "a server that is down",
        meet: |_, server| {
            server.go_down();
            words("once --wait 0")
        },
        says: ["refused", "127.0.0.1:", "Try again later"],
    },
    Case {
        name: "a server whose name is wrong",
        meet: |stage, _| {
            stage.dir.set_server_url(Some("http://no-such-host.invalid")).unwrap();
            words("once --wait 0")
        },
        says: ["name not found", "no-such-host.invalid", "Try again later"],
    },
    Case {
        name: "an address that is none",
        meet: |stage, _| {
            stage.dir.set_server_url(Some("ftp://music.example")).unwrap();
            words("once --wait 0")
        },
        says: ["server URL must begin with", "the app's setting", "http:// or https://"],
    },
    Case {
        name: "a certificate of an issuer nobody knows",
        meet: |stage, _| {
            let server = Server::builder(Version::Later).tls(Leaf::Good).start().unwrap();
            stage.dir.set_server_url(Some(&server.url())).unwrap();
            beside("once --wait 0", server)
        },
        says: ["unknown issuer", "127.0.0.1", "set server.ca_file"],
    },
    Case {
        name: "a file of roots that is not there",
        meet: |stage, _| {
            stage.configure("[server]\nca_file = \"/nowhere/ca.pem\"\n");
            let server = Server::builder(Version::Later).tls(Leaf::Good).start().unwrap();
            stage.dir.set_server_url(Some(&server.url())).unwrap();
            beside("once --wait 0", server)
        },
        says: ["ca_file", "/nowhere/ca.pem", "No such file"],
    },
    Case {
        name: "a token that is refused",
        meet: |_, server| {
            server.always(Fault::Answer(Reply::text(401, "invalid or expired token")));
            words("once --wait 0")
        },
        says: ["invalid or expired token", "401", "Sign in again"],
    },
    Case {
        name: "a portal in the place of the server",
        meet: |_, server| {
            server.always(Fault::Answer(Reply::captive_portal()));
            words("once --wait 0")
        },
        says: ["HTML page", "That is no waveflow-server", "check the address"],
    },
    Case {
        name: "plain http where TLS is a must",
        meet: |stage, _| {
            stage.configure("[server]\nrequire_tls = true\n");
            stage.dir.set_server_url(Some("http://192.0.2.1")).unwrap();
            words("once --wait 0")
        },
        says: ["not encrypted", "192.0.2.1", "require_tls"],
    },
    Case {
        name: "an op that is not in the list",
        meet: |stage, _| beside("queue discard --yes 00000000-0000-4000-8000-000000000000", Daemon::start(stage)),
        says: ["no such op", "quarantined or held", "see queue list"],
    },
];

#[test]
fn every_message_says_what_where_and_what_to_do() {
    let mut silent = Vec::new();
    for case in &CASES {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::with(Generation::Three, &server);
        let profile = stage.profile("Zoë", "alice");
        profile.enqueue(&NewOp::renames(1)).unwrap();
        let (arguments, _who) = (case.meet)(&stage, &server);
        let run = Agent::start(command(stage.home()).args(&arguments)).finish();
        let told = format!("{}{}", run.stdout, run.stderr);
        assert_ne!(run.code, Some(0), "{}: {told}", case.name);
        for words in case.says.iter().filter(|words| !told.contains(**words)) {
            silent.push(format!("{}: nothing of {words:?} in\n{told}", case.name));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
