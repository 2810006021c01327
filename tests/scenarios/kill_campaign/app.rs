//! The app as a process of its own, which can be killed in mid-transaction: this very program, started again to run one
//! test that is none.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use testkit::data_dir::{DataDir, Generation, Profile, Style};
use testkit::ops::NewOp;
use uuid::Uuid;

use crate::common::daemon::eventually;

/// What the process is to play on: place of its generation, profile, directory.
const STAGE: &str = "WAVEFLOW_SYNC_AGENT_KILLED_APP";
/// Ops in one of its transactions.
const BURST: usize = 40;
/// Transactions it commits before it stays in the next one.
const TRANSACTIONS: usize = 20;

/// A change whose entity bears the id of its op: what the app has committed is what is in its `entity` table.
pub(super) fn op() -> NewOp {
    let id = Uuid::new_v4();
    NewOp::new("playlist", &id.to_string(), "set")
        .field("name")
        .payload(&serde_json::json!({ "value": "Soirée" }))
        .id(id)
}

/// `count` of them.
pub(super) fn ops(count: usize) -> Vec<NewOp> {
    (0..count).map(|_| op()).collect()
}

/// The app, running.
pub(super) struct App {
    child: Child,
    begun: Arc<AtomicUsize>,
    committed: Arc<AtomicUsize>,
    listener: Option<JoinHandle<()>>,
}

impl App {
    /// Starts it on `profile` and waits until it has committed something.
    pub(super) fn start(profile: &Profile) -> Self {
        let dir = profile.data_dir();
        let generation = Generation::QUEUEING.iter().position(|one| *one == dir.generation()).unwrap();
        let stage = format!("{generation} {} {}", profile.id, dir.path().display());
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::the_app_until_it_is_killed"), "--nocapture"])
            .env(STAGE, stage)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (begun, committed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = [("begin", Arc::clone(&begun)), ("commit", Arc::clone(&committed))];
        let out = BufReader::new(child.stdout.take().unwrap());
        let listener = thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                for (_, count) in counts.iter().filter(|(word, _)| *word == line) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let app = Self { child, begun, committed, listener: Some(listener) };
        eventually("the app has committed something", || app.committed.load(Ordering::Relaxed) > 0);
        app
    }

    /// SIGKILL; whether it was in a transaction.
    pub(super) fn kill(mut self) -> bool {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), None, "the app ended by itself");
        // To the end of what it said.
        self.listener.take().unwrap().join().unwrap();
        self.begun.load(Ordering::Relaxed) > self.committed.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Gone already, where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str) {
    // As one write; past the harness, which would keep it.
    std::io::stdout().write_all(format!("{word}\n").as_bytes()).unwrap();
}

/// Not a test: what [`App`] runs. Without an order it has nothing to play on.
#[test]
fn the_app_until_it_is_killed() {
    let Ok(stage) = std::env::var(STAGE) else { return };
    let [generation, profile, dir] = stage.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let dir = DataDir::new(dir, Generation::QUEUEING[generation.parse::<usize>().unwrap()]).unwrap();
    let profile: i64 = profile.parse().unwrap();
    let profile = dir.profiles().unwrap().into_iter().find(|one| one.id == profile).unwrap();
    let mut db = profile.open().unwrap();
    for _ in 0..TRANSACTIONS {
        db.enqueue_as(Style::Immediate, &ops(BURST), || say("begin")).unwrap();
        say("commit");
    }
    let stay = || {
        say("begin");
        // Until it is killed, or whoever started it is gone.
        let _ = std::io::stdin().read(&mut [0]);
    };
    db.enqueue_as(Style::Immediate, &ops(BURST), stay).unwrap();
}
