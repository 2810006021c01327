//! A small Debian with its own systemd, booted for one scenario: `systemd-nspawn` on the tree that `.ci/run` makes.
//!
//! What must always hold: what is written in it stays in memory and goes with it, but for the homes, which are a directory
//! of the test's, so that the made-up app can be at work in them; it has a network of its own with nothing but loopback;
//! it ends with [`Container`] and with the thread that booted it, whatever becomes of that, and leaves nothing behind.

mod app;
mod cgroups;
mod unit;

use std::env;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tempfile::TempDir;
use testkit::server::{Server, Version};

use self::cgroups::Cgroups;
use super::daemon::{SOON, holds_within};
use super::users::give;
use super::{Agent, Run};

pub(crate) use app::{App, FLATPAK, USUAL};
pub(crate) use unit::{SERVICE, SOCKET, Unit};

/// The agent's configuration, below the home directory.
pub(crate) const CONFIG: &str = ".config/waveflow/sync-agent.toml";
/// Names the tree.
const TREE: &str = "WAVEFLOW_SYNC_AGENT_TREE";
/// Names the package.
const DEB: &str = "WAVEFLOW_SYNC_AGENT_DEB";
/// What is needed on this machine.
const PROGRAMS: [&str; 3] = ["systemd-nspawn", "nsenter", "setpriv"];
/// Joins its cgroups, and becomes the rest of its arguments. A shell's work, because nothing of ours may run between
/// fork and exec.
const JOIN: &str = "for group in $GROUPS_TO_JOIN; do echo $$ >\"$group/cgroup.procs\"; done; exec \"$@\"";

/// Somebody in there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
}

/// Who runs the machine.
pub(crate) const ADMIN: User = User { name: "root", id: 0 };
/// An ordinary user with lingering.
pub(crate) const ADA: User = User { name: "ada", id: 1000 };
/// An ordinary user without.
pub(crate) const BOB: User = User { name: "bob", id: 1001 };

pub(crate) struct Container {
    nspawn: Child,
    leader: u32,
    name: String,
    homes: TempDir,
    _cgroups: Cgroups,
}

impl Container {
    /// Boots one, installs the package under test as a person does, and waits until its users are there and [`ADA`]'s
    /// manager runs. Says so, and is `None`, where it cannot be done here.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_with(&[])
    }

    /// [`Self::boot`] with more arguments for `systemd-nspawn`.
    pub(crate) fn boot_with(arguments: &[&str]) -> Option<Self> {
        let (tree, deb) = (wanted(TREE)?, wanted(DEB)?);
        if !geteuid().is_root() {
            eprintln!("skipped: a container takes root");
            return None;
        }
        if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
            eprintln!("skipped: there is no {missing} here");
            return None;
        }
        let container = Self::launch(&tree, arguments);
        container.populate();
        container.install_deb(&deb).ended_with(0);
        Some(container)
    }

    fn launch(tree: &Path, arguments: &[&str]) -> Self {
        static BOOTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("wsa-{}-{}", std::process::id(), BOOTED.fetch_add(1, Ordering::SeqCst));
        let homes = tempfile::tempdir().unwrap();
        // Others have to get to their homes.
        fs::set_permissions(homes.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let cgroups = Cgroups::new(&name);
        let mut command = Command::new("setpriv");
        // Ended with the thread that starts it: a test that is killed leaves nobody running.
        command.args(["--pdeathsig", "KILL", "sh", "-c", JOIN, "sh", "systemd-nspawn", "--quiet", "--boot"]);
        command.args(["--register=no", "--private-network", "--link-journal=no", "--volatile=overlay"]);
        command.args(cgroups.arguments()).args(arguments);
        command.arg(format!("--machine={name}")).arg(format!("--bind={}:/home", homes.path().display()));
        command.arg("--directory").arg(tree);
        command.env("GROUPS_TO_JOIN", cgroups.to_join()).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let log = File::create(homes.path().join(".console")).unwrap();
        command.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        let nspawn = command.spawn().expect("systemd-nspawn can be started");
        let mut container = Self { nspawn, leader: 0, name, homes, _cgroups: cgroups };
        let up = holds_within(SOON, || {
            assert!(container.nspawn.try_wait().unwrap().is_none(), "it ended: {}", container.console());
            container.leader = container.first_process().unwrap_or_default();
            container.leader != 0 && container.is_up()
        });
        assert!(up, "it does not come up: {}", container.console());
        container
    }

    /// The container's first process, when it is in there.
    fn first_process(&self) -> Option<u32> {
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.split_whitespace().next()?.parse().ok()?;
        // On its way there is another one, which is still here.
        let world = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        (world(&format!("{child}"))? != world("self")?).then_some(child)
    }

    fn is_up(&self) -> bool {
        let state = self.run(&ADMIN, &["systemctl", "is-system-running"]).stdout;
        ["running", "degraded"].contains(&state.trim())
    }

    /// The users, as a person makes them.
    fn populate(&self) {
        for user in [&ADA, &BOB] {
            let id = user.id.to_string();
            self.run(&ADMIN, &["useradd", "-m", "-s", "/bin/bash", "-u", &id, user.name]).ended_with(0);
        }
        self.run(&ADMIN, &["loginctl", "enable-linger", ADA.name]).ended_with(0);
        let up = holds_within(SOON, || self.run(&ADA, &["systemctl", "--user", "is-system-running"]).code == Some(0));
        assert!(up, "ada's manager does not come up: {:?}", self.run(&ADA, &["systemctl", "--user", "--failed"]));
    }

    /// What the console showed.
    fn console(&self) -> String {
        fs::read_to_string(self.homes.path().join(".console")).unwrap_or_default()
    }

    /// This command, run inside as this user, with the environment of a login.
    pub(crate) fn command(&self, user: &User, arguments: &[&str]) -> Command {
        let leader = self.leader.to_string();
        let mut command = Command::new("nsenter");
        // In the leader's namespaces, root directory and working directory.
        command.args(["--target", &leader, "--all", "--root", "--wd"]);
        if *user != ADMIN {
            let [uid, gid] = ["uid", "gid"].map(|what| format!("--re{what}={}", user.id));
            command.args(["setpriv", &uid, &gid, "--init-groups"]);
        }
        command.args(["env", "--ignore-environment", "--chdir", "/", "TERM=dumb"]);
        let home = if *user == ADMIN { "/root".to_owned() } else { format!("/home/{}", user.name) };
        command.args([format!("HOME={home}"), format!("USER={}", user.name)]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(format!("XDG_RUNTIME_DIR=/run/user/{}", user.id));
        command.args(arguments);
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, user: &User, arguments: &[&str]) -> Run {
        Agent::start(&mut self.command(user, arguments)).finish()
    }

    /// Runs a line of shell inside, and fails unless it is well.
    #[track_caller]
    pub(crate) fn shell(&self, user: &User, line: &str) -> Run {
        self.run(user, &["sh", "-ec", line]).ended_with(0)
    }

    /// Where this path of the container's is seen from outside. Not for SQLite, which would follow the link by its words.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    /// A user's home, by its path outside.
    pub(crate) fn home(&self, user: &User) -> PathBuf {
        self.homes.path().join(user.name)
    }

    /// Writes a file of root's inside, and the directories on the way to it.
    pub(crate) fn write(&self, inside: &str, content: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a file below a user's home, and gives it to the user.
    pub(crate) fn write_home(&self, user: &User, below: &str, content: &str) {
        let path = self.home(user).join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        give(&self.home(user), user.id);
    }

    /// Installs this package.
    pub(crate) fn install_deb(&self, deb: &Path) -> Run {
        fs::copy(deb, self.path("/srv/agent.deb")).unwrap();
        self.run(&ADMIN, &["dpkg", "--install", "/srv/agent.deb"])
    }

    /// Says this line to the agent's socket as a script would, and shows what came back.
    #[track_caller]
    pub(crate) fn say(&self, line: &str) -> Value {
        let say = format!("echo {line} | timeout 60 nc -N -U $XDG_RUNTIME_DIR/waveflow/sync-agent.sock");
        let answer = self.shell(&ADA, &say).stdout;
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Does it with the container's network.
    pub(crate) fn in_its_network<R: Send>(&self, act: impl FnOnce() -> R + Send) -> R {
        let network = File::open(format!("/proc/{}/ns/net", self.leader)).unwrap();
        let acting = || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(acting).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// A server on its loopback: its threads are started from there and stay there.
    pub(crate) fn server(&self) -> Server {
        self.in_its_network(|| Server::start(Version::Later).unwrap())
    }

    /// The whole journal, the users' own included, in order.
    pub(crate) fn journal(&self) -> Vec<Value> {
        // What was said and is not written yet.
        self.run(&ADMIN, &["journalctl", "--sync"]).ended_with(0);
        let shown = self.run(&ADMIN, &["journalctl", "--output=json", "--no-pager", "--all"]).ended_with(0).stdout;
        shown.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nothing here may panic again.
            let lines = self.command(&ADMIN, &["timeout", "10", "journalctl", "--no-pager", "--lines=80"]).output();
            let lines = lines.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("--- the end of the container's journal\n{}", lines.unwrap_or_default());
        }
        // With it goes everything in there. It is a child's child: no other process can have got its number before our
        // child was waited for.
        if let Some(leader) = Pid::from_raw(self.leader.try_into().unwrap_or_default()) {
            let _ = kill_process(leader, Signal::KILL);
        }
        if !holds_within(SOON, || self.nspawn.try_wait().is_ok_and(|ended| ended.is_some())) {
            let _ = self.nspawn.kill();
            let _ = self.nspawn.wait();
        }
        // What nspawn makes for each machine, and leaves there.
        let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&self.name));
    }
}

/// The path in this variable; says so where it is not set.
fn wanted(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    match &path {
        Some(path) => assert!(path.exists(), "{variable}: there is no {}", path.display()),
        None => eprintln!("skipped: {variable} is not set; see tests/README.md"),
    }
    path
}

/// Whether a program of this name can be started.
fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).exists())
}
