//! The static build where there is nothing but it: an empty root, a network that is only this machine, and a name server
//! of the test's own.
//!
//! Which binary is told by a variable; `.ci/run` builds one.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::data_dir::{Generation, Profile};
use testkit::dns::Dns;
use testkit::ops::NewOp;
use testkit::server::{Server, Version};

use crate::common::{Agent, Run, Stage, assert_delivered};

/// Names the binary.
const BINARY: &str = "WAVEFLOW_SYNC_AGENT_STATIC";
/// Set where the test runs itself again, in a network of its own.
const WITHIN: &str = "WAVEFLOW_SYNC_AGENT_STATIC_WITHIN";

/// Where every program asks that is told no other port.
const NAME_SERVER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);

#[test]
fn a_static_build_alone_in_an_empty_root_finds_the_server_by_its_name() {
    let Some(binary) = env::var_os(BINARY) else {
        println!("skipped: {BINARY} names no static build");
        return;
    };
    if env::var_os(WITHIN).is_some() {
        within(Path::new(&binary));
        return;
    }
    let apart = |program: &Path| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--"]).arg(program);
        unshare
    };
    if !apart(Path::new("true")).output().is_ok_and(|output| output.status.success()) {
        println!("skipped: a network of one's own takes root and util-linux");
        return;
    }
    let name = "scenarios::static_build::a_static_build_alone_in_an_empty_root_finds_the_server_by_its_name";
    let mut again = apart(&env::current_exe().unwrap());
    let again = again.args(["--exact", name, "--nocapture"]).env(WITHIN, "1").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    print!("{said}");
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}

/// An install in what is a root directory for the agent, with the agent in it and little else.
struct Alone {
    stage: Stage,
    profile: Profile,
    server: Server,
    ops: Vec<NewOp>,
}

impl Alone {
    /// One whose server is called `name`.
    fn new(binary: &Path, name: &str) -> Self {
        let server = Server::start(Version::Later).unwrap();
        let stage = Stage::new(Generation::Three);
        let url = format!("http://{name}:{}", server.address().port());
        stage.dir.set_server_url(Some(&url)).unwrap();
        let profile = stage.profile("Zoë", "alice");
        let ops = NewOp::renames(3);
        profile.enqueue(&ops).unwrap();
        // Another process copies: see `agent_of`.
        let copied = Command::new("cp").arg("-L").arg(binary).arg(stage.home().join("agent")).status().unwrap();
        assert!(copied.success());
        fs::create_dir(stage.home().join("etc")).unwrap();
        let ip = Ipv4Addr::LOCALHOST;
        fs::write(stage.home().join("etc/hosts"), format!("{ip} localhost\n{ip} music.home\n")).unwrap();
        let quick = format!("nameserver {}\noptions timeout:1 attempts:1\n", NAME_SERVER.0);
        fs::write(stage.home().join("etc/resolv.conf"), quick).unwrap();
        Self { stage, profile, server, ops }
    }

    /// Runs `once --json` in there.
    fn once(&self, wait: &str) -> Run {
        let mut command = Command::new("unshare");
        command
            .arg("--root")
            .arg(self.stage.home())
            .args(["--", "/agent", "--json", "once", "--wait", wait])
            .env_clear();
        for (variable, directory) in [
            ("HOME", "/"),
            ("XDG_DATA_HOME", "/data"),
            ("XDG_CONFIG_HOME", "/config"),
            ("XDG_STATE_HOME", "/state"),
            ("XDG_RUNTIME_DIR", "/run"),
        ] {
            command.env(variable, directory);
        }
        Agent::start(&mut command).finish()
    }

    #[track_caller]
    fn is_served(&self) {
        self.once("10s").ended_with(0);
        assert_delivered(&self.server, &self.ops);
        assert_eq!(self.profile.pending_count().unwrap(), 0);
    }

    /// Says that it is the name's fault, and keeps everything.
    #[track_caller]
    fn is_not_found(&self) {
        let run = self.once("0").ended_with(75);
        assert_eq!(run.kind(), "network", "{run:?}");
        assert!(run.message().contains("name not found"), "{run:?}");
        assert!(run.took < Duration::from_secs(30), "{:?}", run.took);
        assert_eq!((self.server.stored().len(), self.profile.pending_count().unwrap()), (0, self.ops.len()));
    }
}

fn within(binary: &Path) {
    loopback_up();
    let by_file = Alone::new(binary, "music.home");
    assert_eq!(fs::read_dir(by_file.stage.home()).unwrap().count(), 4, "agent, etc, data, config");
    by_file.is_served();

    let dns = Dns::start(NAME_SERVER.into(), &[("music.test", Ipv4Addr::LOCALHOST)]).unwrap();
    Alone::new(binary, "music.test").is_served();
    assert!(dns.asked() > 0, "somebody else told it the name");
    let asked = dns.asked();
    Alone::new(binary, "musik.test").is_not_found();
    assert!(dns.asked() > asked);
    drop(dns);

    // Nobody is there to be asked; then somebody who never answers; then nobody is named.
    let alone = Alone::new(binary, "music.test");
    alone.is_not_found();
    let silent = UdpSocket::bind(NAME_SERVER).unwrap();
    alone.is_not_found();
    drop(silent);
    fs::remove_file(alone.stage.home().join("etc/resolv.conf")).unwrap();
    alone.is_not_found();
    // What is no file at all.
    symlink("/nowhere", alone.stage.home().join("etc/resolv.conf")).unwrap();
    alone.is_not_found();
}

/// A network that is new has nothing that is up. It is told so through its own files: `ip` is not everywhere.
fn loopback_up() {
    let devices = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "sysfs", "none"]).arg(devices.path()).status().unwrap();
    assert!(mounted.success());
    let net = devices.path().join("class/net");
    let all: Vec<_> = fs::read_dir(&net).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(all, ["lo"], "this is not a network of its own");
    fs::write(net.join("lo/flags"), "1").unwrap();
    // The directory goes; what is mounted there ends with this process.
    let _ = Command::new("umount").arg(devices.path()).status();
}
